"""Toys with answers known by hand: an exact denoiser, a network with given answers, a linear classifier."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from cfx.diffusion.ddpm import DDPM, Schedule
from cfx.diffusion.flow import Flow
from cfx.diffusion.latent_model import LatentModel
from cfx.diffusion.latent_prior import LatentPrior
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


class Velocity(nn.Module):
    """The exact velocity of a straight path when images, or latents, are N(mean, variance I); the network is told 1000 s."""

    def __init__(self, mean: float = 0.0, variance: float = 0.25) -> None:
        super().__init__()
        self.mean, self.variance = mean, variance

    def forward(self, state: Tensor, timesteps: Tensor) -> Tensor:
        s = (timesteps.double() / 1000).view(-1, 1, 1, 1)
        gain = self.variance * (1 - s) / (self.variance * (1 - s).square() + s.square())
        x0 = self.mean + gain * (state.double() - (1 - s) * self.mean)
        return ((state.double() - x0) / s).to(state)


class LinearAutoencoder:
    """2 x 2 pixels of an image into one position of a latent, turned and stretched; `channels` below 12 of it are kept, so that
    an image comes back without the rest."""

    factor = 2

    def __init__(self, channels: int = 12, stretch: float = 1.5) -> None:
        self.channels, self.stretch = channels, stretch
        turned = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
        self.turn = turned[:channels]

    def encode(self, x: Tensor) -> Tensor:
        return self.stretch * torch.einsum("cd,bdhw->bchw", self.turn.to(x), pixel_unshuffle(x, 2))

    def decode(self, z: Tensor) -> Tensor:
        return pixel_shuffle(torch.einsum("cd,bchw->bdhw", self.turn.to(z), z / self.stretch), 2)


def latent_prior(
    steps: int = 50, channels: int = 12, network: nn.Module | None = None, schedule: Schedule | Flow | None = None
) -> LatentPrior:
    """A prior that is exact where latents of `LinearAutoencoder` are Gaussian, as `gaussian_prior` where images are."""
    network, schedule = network or GaussianNetwork(), schedule or Schedule(prediction_type="sample", clip_sample=False)
    return LatentPrior(LatentModel(network, schedule, LinearAutoencoder(channels), None, None), steps)


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
