"""How well a prior knows images: what noising and denoising makes of them, beside what a plain blur would."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from cfx.diffusion.schedule import q_sample
from cfx.methods.dime import denoise
from cfx.random import ImageNoise
from cfx.types import Denoiser

WIDTHS = (1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8)  # standard deviations of plain blurs, shares of the image's shorter side


class Change(NamedTuple):
    """How far images moved, on [0, 1]."""

    distance: float  # mean |difference| of a pixel
    colours: float  # of a channel's histogram in an image: the first Wasserstein distance


def there_and_back(denoiser: Denoiser, x: Tensor, noise: ImageNoise, tau: int) -> tuple[Tensor, Tensor]:
    """x (B, 3, H, W) in [-1, 1] noised to step tau - 1, and what unguided denoising makes of that, in [-1, 1].

    Of a prior over latents the latent of x is noised, (B, C, h, w), and decoded once it is denoised.
    """
    autoencoder = getattr(denoiser, "autoencoder", None)
    z = q_sample(denoiser, x if autoencoder is None else autoencoder.encode(x), tau - 1, noise)
    back = denoise(denoiser, z, tau - 1, noise)
    return z, (back if autoencoder is None else autoencoder.decode(back)).clamp(-1, 1)


def best_blur(denoiser: Denoiser, x: Tensor, z: Tensor, tau: int) -> Change:
    """How far the best plain blur of z, which is x noised to step tau - 1, is from x; of latents, once it is decoded."""
    signal, autoencoder = max(1e-6, float(denoiser.alphas_cumprod[tau - 1])) ** 0.5, getattr(denoiser, "autoencoder", None)
    guesses = (one if autoencoder is None else autoencoder.decode(one) for one in blurs(z / signal))
    return min(change(x, guess.clamp(-1, 1)) for guess in guesses)


@torch.no_grad()
def reconstruction(denoiser: Denoiser, x: Tensor, tau: int) -> float:
    """What noising and denoising changes in x (B, 3, H, W), as a share of what the best plain blur of the noised x leaves."""
    z, back = there_and_back(denoiser, x, ImageNoise.of([str(i) for i in range(len(x))], 0), tau)
    return change(x, back).distance / max(1e-6, best_blur(denoiser, x, z, tau).distance)


def change(x: Tensor, other: Tensor) -> Change:
    """Between two batches (B, C, H, W) in [-1, 1]."""
    sorted_x, sorted_other = (batch.flatten(2).sort(2).values for batch in (x, other))
    return Change(float((other - x).abs().mean() / 2), float((sorted_other - sorted_x).abs().mean() / 2))


def blurs(z: Tensor) -> list[Tensor]:
    """Gaussian blurs of z (B, C, H, W) from none to the mean colour: all that can be said of an image without knowing images."""
    found, side = [z, z.mean((2, 3), keepdim=True).expand_as(z)], min(z.shape[2:])
    for width in WIDTHS:
        kernel = 2 * int(3 * width * side) + 1
        found.append(gaussian_blur(z, [kernel, kernel], [width * side, width * side]))
    return found
