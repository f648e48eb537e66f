"""Toys with answers known by hand: an exact denoiser, a network with given answers, a linear classifier."""

import torch
from torch import Tensor, nn

from cfx.diffusion.ddpm import DDPM, Schedule
from cfx.diffusion.schedule import betas


class GaussianNetwork(nn.Module):
    """The exact clean estimate E[x0 | z_t] when images are N(mean, variance I)."""

    def __init__(self, mean: float = 0.0, variance: float = 0.25) -> None:
        super().__init__()
        self.mean, self.variance = mean, variance
        self.level = (1 - betas("linear", 1000)).cumprod(0).float()

    def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
        level = self.level[timesteps].view(-1, 1, 1, 1)
        gain = self.variance * level.sqrt() / (self.variance * level + 1 - level)
        return self.mean + gain * (z - level.sqrt() * self.mean)


def gaussian_prior(steps: int = 50, mean: float = 0.0, variance: float = 0.25) -> DDPM:
    """A denoiser that is exact for Gaussian images."""
    return DDPM(GaussianNetwork(mean, variance), Schedule(prediction_type="sample"), channels=3, steps=steps)


class Says(nn.Module):
    """A UNet that predicts the same noise and the same variance channel everywhere."""

    def __init__(self, eps: float, variance: float | None = None) -> None:
        super().__init__()
        self.eps, self.variance = eps, variance

    def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
        eps = torch.full_like(z, self.eps)
        return eps if self.variance is None else torch.cat([eps, torch.full_like(z, self.variance)], dim=1)


class Linear:
    """Two classes; the log-odds of the second are the mean of weight * x, times `gain`."""

    classes = ("low", "high")
    differentiable = True

    def __init__(self, size: int = 8, gain: float = 10.0) -> None:
        self.weight = torch.zeros(3, size, size)
        self.weight[:, : size // 2] = 1.0  # only the upper half counts
        self.gain = gain

    def __call__(self, x: Tensor) -> Tensor:
        log_odds = self.gain * (x * self.weight).flatten(1).mean(1)
        return torch.stack([torch.zeros_like(log_odds), log_odds], dim=1)
