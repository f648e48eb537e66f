"""How an image is brought to a noise depth: by noise, or by running its own deterministic reverse process backwards."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from cfx.diffusion.schedule import q_sample
from cfx.random import ImageNoise
from cfx.types import Denoiser

Start = Annotated[
    Literal["noise", "ddim"],
    Field(description="noise the image, or invert it by DDIM: no chance, and tau evaluations more"),
]


def started(denoiser: Denoiser, x: Tensor, t: int, noise: ImageNoise, start: Start) -> Tensor:
    """x (B, C, H, W) at respaced step t: `noise` draws q(z_t | x), `ddim` inverts it (`ddim_inversion`)."""
    return q_sample(denoiser, x, t, noise) if start == "noise" else ddim_inversion(denoiser, x, t)


@torch.no_grad()
def ddim_inversion(denoiser: Denoiser, x: Tensor, t: int) -> Tensor:
    """The state z_t (B, C, H, W) that deterministic sampling brings back to x, nearly   (Song et al. 2021, arXiv:2010.02502).

    On the way up z_i = sqrt(abar_i) x0 + sqrt(1 - abar_i) eps, with the noise that the denoiser sees in z_(i-1) at step i. t + 1
    UNet evaluations an image, and no noise is drawn.
    """
    z, level = x, 1.0
    for i in range(t + 1):
        eps = denoiser.step(z, i).eps
        x0 = (z - math.sqrt(1 - level) * eps) / math.sqrt(level)
        level = float(denoiser.alphas_cumprod[i])
        z = math.sqrt(level) * x0 + math.sqrt(1 - level) * eps
    return z
