"""Blended Diffusion (Avrahami et al. 2022) with the whole image as its mask: the baseline DVCE compares itself with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cfx.diffusion.schedule import check_depth, q_sample
from cfx.errors import UserError
from cfx.guidance import clean_estimate, posterior_mean
from cfx.paths import FileName
from cfx.random import ImageNoise
from cfx.random_views import Rendering, draw_views, view_score
from cfx.types import Classifier, Config, Counterfactual, Denoiser


class Blended(Config):
    """Blended Diffusion's knobs, as DVCE's authors run it, but for LPIPS (weight 1000 there), which needs a file."""

    method: Literal["blended"] = "blended"
    steps: int = Field(100, ge=1, description="respaced steps of the prior")
    tau: int = Field(75, ge=1, description="noise depth, in respaced steps; at most `steps`")
    scale: float = Field(25.0, ge=0, description="weight of the class score; 0 is the null run")
    lpips: float = Field(0.0, ge=0, description="weight of LPIPS to the input; 1000 in the released code")
    vgg16: FileName | None = Field(None, description="file of torchvision's VGG16 weights, for LPIPS")
    squared: float = Field(10_000.0, ge=0, description="weight of the mean squared difference to the input")
    overshoot: float = Field(50.0, ge=0, description="weight of the clean estimate's mean squared excess over [-1, 1]")
    augmentations: int = Field(16, ge=1, description="views a class score is averaged over")
    side: int = Field(224, ge=8, description="larger images are average-pooled to this many pixels for the class score")
    temperature: float = Field(1.0, gt=0, description="the classifier's logits are divided by it")
    as_released: bool = Field(
        False,
        description="as DVCE's authors ran it: one view, the whole image resized to `side` (bicubic), whatever `augmentations`; "
        "the squared difference is a mean over `batch` images beside sums, so it weighs so much less",
    )
    batch: int = Field(6, ge=1, description="images a batch of the released command, for as_released")

    @model_validator(mode="after")
    def _can_work(self) -> Blended:
        check_depth(self.tau, self.steps)
        if self.lpips and self.vgg16 is None:
            raise UserError(
                f"lpips is {self.lpips}, which needs VGG16: set `vgg16` to a file of torchvision's weights, or lpips to 0"
            )
        return self


@torch.no_grad()
def blended(
    denoiser: Denoiser,
    classifier: Classifier,
    x: Tensor,
    target: Tensor,
    config: Blended,
    noise: ImageNoise,
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Counterfactual:
    """Denoising guided by one sum of losses, back through the UNet, with weights that are not adapted to the image.

    x: (B, 3, H, W) in [-1, 1]; target: (B,) class ids; lpips: images twice to (B,). tau UNet evaluations an image, each but the
    last with one backward. The clean estimate is not clipped, whatever the denoiser does. Losses are those of one image, summed
    over the batch. Raises UserError if the configuration weighs LPIPS and it is not passed.
    """
    if config.lpips and lpips is None:
        raise UserError(f"LPIPS has weight {config.lpips} but no network; pass `lpips`, or set its weight to 0")
    squared = config.squared / (config.batch if config.as_released else 1)
    rendering = Rendering(config.side, config.as_released)
    z = q_sample(denoiser, x, config.tau - 1, noise)
    for t in reversed(range(config.tau)):
        with torch.set_grad_enabled(t > 0):
            z = z.detach().requires_grad_(t > 0)
            _, std, _, eps = denoiser.step(z, t)
            x0 = clean_estimate(denoiser, z, eps, t)
            if t == 0:
                break
            share = math.sqrt(1 - float(denoiser.alphas_cumprod[t]))
            seen = share * x0 + (1 - share) * z  # what the losses are evaluated at
            loss = squared * (seen - x).square().flatten(1).mean(1)
            loss = loss + config.overshoot * (x0 - x0.clamp(-1, 1)).square().flatten(1).mean(1)
            views = draw_views(x, 1 if config.as_released else config.augmentations, noise)
            if config.scale:
                loss = loss - config.scale * view_score(classifier, seen, target, views, rendering, config.temperature)
            if lpips is not None and config.lpips:
                loss = loss + config.lpips * lpips(seen, x)
            (gradient,) = torch.autograd.grad(loss.sum(), z)
        mean = posterior_mean(denoiser, z.detach(), x0.detach(), t)
        z = mean - std.detach().square() * gradient + std.detach() * noise.like(z)
    return Counterfactual(x0.clamp(-1, 1), None)
