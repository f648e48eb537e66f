"""Augmentation for cfx's own networks: the flaws that an image from a diffusion model has, small moves, other light."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from cfx.types import Config


class Augmentation(Config):
    """How far each image may stray; every image draws its own amounts uniformly up to these."""

    shift: float = Field(0.05, ge=0, lt=1, description="translation, fraction of the side, each way")
    zoom: float = Field(0.05, ge=0, lt=1, description="change of scale, each way")
    blur: float = Field(1.0, ge=0, le=1, description="share blended in of a copy shrunk, to half at most, and enlarged again")
    contrast: float = Field(0.15, ge=0, lt=1, description="relative change of contrast, each way")
    brightness: float = Field(0.15, ge=0, description="change of brightness, each way, on [-1, 1]")
    noise: float = Field(0.15, ge=0, description="largest standard deviation of grain, on [-1, 1]")
    erase: float = Field(0.1, ge=0, lt=1, description="side of the grey square laid on half of the images, fraction")


def augment(x: Tensor, config: Augmentation, generator: torch.Generator) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1], each flawed in its own way; all randomness is the generator's."""

    def amount(limit: float) -> Tensor:
        return (torch.rand(len(x), 1, 1, 1, generator=generator) * limit).to(x)

    def either_way(limit: float) -> Tensor:
        return amount(2 * limit) - limit

    x = _moved(x, either_way(config.zoom), either_way(2 * config.shift), either_way(2 * config.shift))
    x = torch.lerp(x, _coarsened(x, 0.5 + 0.5 * float(torch.rand((), generator=generator))), amount(config.blur))
    x = _erased(x, config.erase, generator)
    x = x * (1 + either_way(config.contrast)) + either_way(config.brightness)
    return (x + amount(config.noise) * torch.randn(x.shape, generator=generator).to(x)).clamp(-1, 1)


def _moved(x: Tensor, zoom: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Scale by 1 + zoom and translate (units: half sides), (B, 1, 1, 1) each; what comes in from outside repeats the border."""
    zero = torch.zeros_like(zoom)
    across, along = torch.cat([1 + zoom, zero, right], dim=1), torch.cat([zero, 1 + zoom, down], dim=1)  # (B, 3, 1, 1)
    theta = torch.stack([across.flatten(1), along.flatten(1)], dim=1)  # (B, 2, 3)
    return grid_sample(x, affine_grid(theta, list(x.shape), align_corners=False), padding_mode="border", align_corners=False)


def _coarsened(x: Tensor, share: float) -> Tensor:
    """Shrunk to `share` of the side and enlarged again."""
    size = [round(side * share) for side in x.shape[-2:]]
    small = interpolate(x, size=size, mode="bilinear", antialias=True)
    return interpolate(small, size=x.shape[-2:], mode="bilinear")


def _erased(x: Tensor, side: float, generator: torch.Generator) -> Tensor:
    """Half of the images with one grey square of `side` (fraction of the image's) somewhere."""
    centre = torch.rand(2, len(x), 1, 1, 1, generator=generator).to(x)
    chosen = (torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5).to(x.device)
    rows = torch.linspace(0, 1, x.shape[-2], device=x.device).view(-1, 1)
    columns = torch.linspace(0, 1, x.shape[-1], device=x.device).view(1, -1)
    inside = ((rows - centre[0]).abs() < side / 2) & ((columns - centre[1]).abs() < side / 2)
    return x.masked_fill(inside & chosen, 0.0)
