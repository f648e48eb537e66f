"""EDICT: exact inversion of a diffusion model by two coupled latents (Wallace et al. 2023, arXiv:2211.12446).

The latents best in float64, whatever the network's precision: undoing the mixing enlarges rounding, in float32 to 1.4e-5 after 25
steps of the bundled model, and in bfloat16 a round trip is 1e-3 off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

Noise = Callable[[Tensor, int], Tensor]  # the noise eps(z, t) in z at training step t, guidance included


class Pair(NamedTuple):
    """The coupled latents, each (B, C, h, w). Before inversion both are the image's latent."""

    a: Tensor
    b: Tensor


@dataclass(frozen=True)
class Edict:
    """The schedule: `steps` DDIM steps t_k = k N / steps + 1 of the N trained ones, and the share p that is kept in mixing.

    With `legacy` an inversion is one step off, as the inverse scheduler of diffusers 0.16.1 was: with the noise at t_k it goes
    from the level of t_k to that of t_(k+1), so that it ends one step deeper than denoising starts.
    """

    alphas_cumprod: Tensor  # (N,) float64
    steps: int = 50
    p: float = 0.93
    legacy: bool = False

    @property
    def stride(self) -> int:
        """Trained steps from one DDIM step to the next."""
        return len(self.alphas_cumprod) // self.steps

    def timestep(self, k: int) -> int:
        """The training step of DDIM step k, from 0: 1, 21, ..., 981 for 50 of 1000."""
        return k * self.stride + 1

    def coefficients(self, k: int) -> tuple[float, float]:
        """A and B of z_prev = A z + B eps. Below the first step lies alphas_cumprod[0], as in Stable Diffusion's scheduler."""
        t, last = self.timestep(k), len(self.alphas_cumprod) - 1
        level, before = float(self.alphas_cumprod[min(t, last)]), float(self.alphas_cumprod[max(t - self.stride, 0)])
        return math.sqrt(before / level), math.sqrt(1 - before) - math.sqrt(before * (1 - level) / level)

    def denoise(self, noise: Noise, z: Pair, tau: int) -> Pair:
        """From noise depth `tau` (steps) down to the image."""
        for k in reversed(range(tau)):
            z = self.down(noise, z, k)
        return z

    def invert(self, noise: Noise, z: Pair, tau: int, known: Sequence[Pair] = ()) -> list[Pair]:
        """The latents at every depth 0 .. tau, of which `known` are the first: an inversion that was stopped earlier goes on."""
        depths = [*known[: tau + 1]] or [z]
        for k in range(len(depths) - 1, tau):
            depths.append(self.up(noise, depths[-1], k))
        return depths

    def down(self, noise: Noise, z: Pair, k: int) -> Pair:
        """One denoising step: each latent moves by the other's noise, then they are mixed."""
        (scale, weight), t, p = self.coefficients(k), self.timestep(k), self.p
        a = scale * z.a + weight * noise(z.b, t)
        b = scale * z.b + weight * noise(a, t)
        a = p * a + (1 - p) * b
        return Pair(a, p * b + (1 - p) * a)

    def up(self, noise: Noise, z: Pair, k: int) -> Pair:
        """The exact inverse of `down`, unless `legacy`: the same four lines undone, last first."""
        (scale, weight), t, p = self.coefficients(k + self.legacy), self.timestep(k), self.p
        b = (z.b - (1 - p) * z.a) / p
        a = (z.a - (1 - p) * b) / p
        b = (b - weight * noise(a, t)) / scale
        return Pair((a - weight * noise(b, t)) / scale, b)
