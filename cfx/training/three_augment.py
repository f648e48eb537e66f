"""DeiT III's recipe for images: ThreeAugment (Touvron et al. 2022, arXiv:2204.07118), and mixing images with their labels."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, one_hot
from torchvision.transforms.v2.functional import gaussian_blur, rgb_to_grayscale

from cfx.types import Config


class ThreeAugment(Config):
    """A random crop and flip; grey, solarised or blurred, one of the three; then other light and colour."""

    smallest_crop: float = Field(0.08, gt=0, le=1, description="share of the image that a crop keeps at least")
    flip: float = Field(0.5, ge=0, le=1, description="share of images mirrored left to right")
    jitter: float = Field(0.3, ge=0, lt=1, description="relative change of brightness, contrast and saturation, each way")


def three_augment(x: Tensor, config: ThreeAugment, generator: torch.Generator) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1], each changed in its own way; all randomness is the generator's."""

    def uniform(low: float, high: float) -> Tensor:
        return (low + (high - low) * torch.rand(len(x), 1, 1, 1, generator=generator)).to(x)

    mirrored = 1 - 2 * (uniform(0, 1) < config.flip).to(x)
    x = _cropped(x, uniform(config.smallest_crop, 1).sqrt(), mirrored, uniform(-1, 1), uniform(-1, 1))
    sigma = 0.1 + 1.9 * float(torch.rand((), generator=generator))
    solarised = torch.where(x >= 0, -x, x)
    variants = torch.stack([rgb_to_grayscale(x, num_output_channels=3), solarised, gaussian_blur(x, [9, 9], [sigma, sigma])])
    x = variants[torch.randint(3, (len(x),), generator=generator).to(x.device), torch.arange(len(x), device=x.device)]
    x = (x + 1) * uniform(1 - config.jitter, 1 + config.jitter) - 1
    x = torch.lerp(x.mean((1, 2, 3), keepdim=True), x, uniform(1 - config.jitter, 1 + config.jitter))
    x = torch.lerp(rgb_to_grayscale(x, num_output_channels=3), x, uniform(1 - config.jitter, 1 + config.jitter))
    return x.clamp(-1, 1)


def _cropped(x: Tensor, side: Tensor, mirrored: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """A square window of `side` (share of the image's), `right` and `down` in [-1, 1] of its play, resampled to full size."""
    zero = torch.zeros_like(side)
    across = torch.cat([side * mirrored, zero, right * (1 - side)], dim=1).flatten(1)
    along = torch.cat([zero, side, down * (1 - side)], dim=1).flatten(1)
    grid = affine_grid(torch.stack([across, along], dim=1), list(x.shape), align_corners=False)
    return grid_sample(x, grid, padding_mode="reflection", align_corners=False)


class Mixing(Config):
    """How images are mixed within a batch; a batch with both is mixed one way or the other."""

    mixup: float = Field(0.8, ge=0, description="alpha of the blended share's Beta distribution (arXiv:1710.09412); 0: never")
    cutmix: float = Field(1.0, ge=0, description="alpha of the pasted share's Beta distribution (arXiv:1905.04899); 0: never")


def mix(x: Tensor, labels: Tensor, classes: int, config: Mixing, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mix every image with its mirror position in the batch, (B, 3, H, W); labels (B,) become probabilities (B, classes)."""
    targets = one_hot(labels, classes).to(x)
    ways = [way for way in ("mixup", "cutmix") if getattr(config, way)]
    if not ways:
        return x, targets
    way = ways[int(rng.integers(len(ways)))]
    alpha = config.mixup if way == "mixup" else config.cutmix
    share = float(rng.beta(alpha, alpha))
    if way == "mixup":
        return torch.lerp(x.flip(0), x, share), torch.lerp(targets.flip(0), targets, share)
    (top, bottom), (left, right) = (_span(extent, (1 - share) ** 0.5, rng) for extent in x.shape[-2:])
    pasted = x.clone()
    pasted[..., top:bottom, left:right] = x.flip(0)[..., top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (x.shape[-2] * x.shape[-1])
    return pasted, torch.lerp(targets.flip(0), targets, kept)


def _span(extent: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    """A stretch of `share` of the extent around a random centre, cut off at the borders."""
    centre, half = int(rng.integers(extent)), round(extent * share / 2)
    return max(0, centre - half), min(extent, centre + half)
