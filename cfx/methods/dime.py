"""DiME (Jeanneret et al. 2022, arXiv:2203.15636) and FastDiME (Weng et al. 2024, arXiv:2312.14223)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cfx.diffusion.schedule import q_sample
from cfx.guidance import ClassLoss, changed_region, class_gradient
from cfx.random import ImageNoise
from cfx.types import Classifier, Config, Counterfactual, Denoiser


class DiME(Config):
    """DiME's knobs; defaults are those of the released CelebA command."""

    method: Literal["dime"] = "dime"
    steps: int = Field(200, ge=1, description="respaced steps of the prior")
    tau: int = Field(60, ge=1, description="noise depth, in respaced steps; at most `steps` (below it with exact_start off)")
    scale: float = Field(8.0, ge=0, description="weight of the class gradient; 0 is the null run")
    l1: float = Field(0.05, ge=0, description="pull of the noisy picture towards the input")
    loss: ClassLoss = Field("logit", description="logit (released code) or log_prob (paper)")
    exact_start: bool = Field(
        True, description="noise to step tau - 1, where denoising starts; off: to tau, as the released code"
    )

    @model_validator(mode="after")
    def _depth(self) -> DiME:
        deepest = self.steps if self.exact_start else self.steps - 1
        if self.tau > deepest:
            raise ValueError(
                f"tau is {self.tau}, but only {deepest} of {self.steps} steps can be noised; lower tau or raise steps"
            )
        return self


class FastDiME(Config):
    """FastDiME's knobs; scale, tau and mask follow the released CelebA command."""

    method: Literal["fastdime"] = "fastdime"
    steps: int = Field(200, ge=1, description="respaced steps of the prior")
    tau: int = Field(60, ge=1, description="noise depth, in respaced steps; at most `steps`")
    scale: float = Field(8.0, ge=0, description="weight of the class gradient; 0 is the null run")
    l1: float = Field(0.05, ge=0, description="pull of the noisy picture towards the input")
    loss: ClassLoss = Field("logit", description="logit (released code) or log_prob (paper)")
    threshold: float = Field(0.15, ge=0, le=1, description="share of the largest difference under which the input is kept")
    dilation: int = Field(5, ge=1, description="side of the square that grows the mask, pixels, odd")
    warm_up: float = Field(0.5, ge=0, le=1, description="share of the steps before the mask is applied; 1 for no mask")

    @model_validator(mode="after")
    def _depth(self) -> FastDiME:
        if self.tau > self.steps:
            raise ValueError(f"tau is {self.tau}, but the prior is respaced to {self.steps} steps; lower tau or raise steps")
        return self


def denoise(denoiser: Denoiser, z: Tensor, t: int, noise: ImageNoise) -> Tensor:
    """A complete unguided reverse chain from step t to a clean picture; its last state, not its clean estimate."""
    for i in reversed(range(t + 1)):
        mean, std, _, _ = denoiser.step(z, i)
        z = mean + std * noise.like(z) if i else mean
    return z


@torch.no_grad()
def dime(
    denoiser: Denoiser, classifier: Classifier, x: Tensor, target: Tensor, config: DiME, noise: ImageNoise
) -> Counterfactual:
    """Guided denoising towards `target`; the classifier sees an unguided denoising of each noisy state.

    x: (B, 3, H, W) in [-1, 1]; target: (B,) class ids. tau (tau + 1) / 2 UNet evaluations an image.
    """
    z, x_t = q_sample(denoiser, x, config.tau - config.exact_start, noise), x
    for t in reversed(range(config.tau)):
        mean, std, _, _ = denoiser.step(z, t)
        level = math.sqrt(denoiser.alphas_cumprod[t])
        towards_target = config.scale * class_gradient(classifier, x_t, target, config.loss) / level if config.scale else 0
        away_from_x = config.l1 * (z - x).sign()  # gradient of |z - x|_1; of the noisy z and not scaled, as in the released code
        z = mean - std.square() * (towards_target + away_from_x)
        if t:
            z = z + std * noise.like(z)
            x_t = denoise(denoiser, z, t - 1, noise)
    return Counterfactual(z.clamp(-1, 1), None)


@torch.no_grad()
def fastdime(
    denoiser: Denoiser, classifier: Classifier, x: Tensor, target: Tensor, config: FastDiME, noise: ImageNoise
) -> Counterfactual:
    """DiME with the one-step clean estimate in place of the inner chain, and a mask that keeps what need not change.

    x: (B, 3, H, W) in [-1, 1]; target: (B,) class ids. tau UNet evaluations an image. The class gradient is not divided by
    sqrt(abar), as in the released code; outside the mask the input is noised to t - 1, the level z is at (the released code
    noises it to t).
    """
    z, x_t = q_sample(denoiser, x, config.tau - 1, noise), x
    mask = None
    for t in reversed(range(config.tau)):
        mean, std, x0, _ = denoiser.step(z, t)
        towards_target = config.scale * class_gradient(classifier, x_t, target, config.loss) if config.scale else 0
        z = mean - std.square() * (towards_target + config.l1 * (z - x).sign())
        if t:
            z = z + std * noise.like(z)
        x_t = x0
        if config.tau - t > config.warm_up * config.tau:
            mask = changed_region(x, x_t, config.threshold, config.dilation)
            background = q_sample(denoiser, x, t - 1, noise) if t else x
            x_t = mask * x_t + (1 - mask) * x
            z = mask * z + (1 - mask) * background
    return Counterfactual(z.clamp(-1, 1), mask)
