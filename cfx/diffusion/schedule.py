"""Noise schedules, respacing and the forward process q(z_t | x)   (Ho et al. 2020; Nichol & Dhariwal 2021)."""

from __future__ import annotations

import math
from itertools import accumulate, repeat
from typing import Literal, get_args

import torch
from torch import Tensor

from cfx.errors import UserError
from cfx.random import ImageNoise
from cfx.types import Denoiser

Prediction = Literal["epsilon", "sample", "v_prediction"]  # diffusers' names
BetaSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"]  # diffusers' names


def betas(schedule: BetaSchedule, steps: int, start: float | None = None, end: float | None = None) -> Tensor:
    """The N betas of a named schedule, (N,) float64, from `start` to `end` where the schedule has ends.

    By default those of `linear` are 1e-4 and .02, scaled by 1000/N as in guided-diffusion, so that N = 500 ends at the same noise
    as N = 1000; those of `scaled_linear` Stable Diffusion's. Raises UserError for another name.
    """
    usual = ends(schedule, steps)
    first, last = usual[0] if start is None else start, usual[1] if end is None else end
    if schedule == "linear":
        return torch.linspace(first, last, steps, dtype=torch.float64)
    if schedule == "scaled_linear":
        return torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64).square()
    if schedule == "squaredcos_cap_v2":
        level = torch.cos((torch.arange(steps + 1, dtype=torch.float64) / steps + 0.008) / 1.008 * math.pi / 2).square()
        return (1 - level[1:] / level[:-1]).clamp(max=0.999)
    if schedule == "sigmoid":  # GeoDiff's
        return torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid() * (last - first) + first
    raise UserError(f"unknown noise schedule {schedule!r}; use {', '.join(get_args(BetaSchedule))}")


def ends(schedule: BetaSchedule, steps: int) -> tuple[float, float]:
    """First and last beta of N, where nothing else is said."""
    scale = 1000 / steps
    return (0.00085, 0.012) if schedule == "scaled_linear" else (scale * 1e-4, scale * 0.02)


def without_signal_at_the_end(original: Tensor) -> Tensor:
    """Betas (N,), float64, after which nothing is left of the image   (Lin et al. 2024, algorithm 1)."""
    signal = (1 - original).cumprod(0).sqrt()
    level = ((signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])).square()
    return 1 - level / torch.cat([torch.ones(1, dtype=level.dtype), level[:-1]])


def respaced_timesteps(steps: int, kept: int, summed: bool = False) -> list[int]:
    """Which of `steps` original steps are kept when sampling with `kept` of them.

    One section, stride (N - 1)/(K - 1), positions rounded half to even. `summed` adds the stride up, as guided-diffusion does,
    whose rounding errors then decide where a position lies half way. Raises UserError for more steps than there are.

    Examples:
        >>> respaced_timesteps(500, 25)[12], respaced_timesteps(500, 25, summed=True)[12]
        (250, 249)
    """
    if not 1 <= kept <= steps:
        raise UserError(f"cannot respace {steps} steps to {kept}; choose between 1 and {steps}")
    if kept == 1:
        return [0]
    stride = (steps - 1) / (kept - 1)
    positions = accumulate(repeat(stride, kept - 1), initial=0.0) if summed else (i * stride for i in range(kept))
    return sorted({round(position) for position in positions})


def trailing_timesteps(steps: int, kept: int) -> list[int]:
    """Which of `steps` original steps are kept where each stands at the end of its section, the last step among them: diffusers'
    "trailing", which models of few steps are made for. Raises UserError for more steps than there are.

    Examples:
        >>> trailing_timesteps(1000, 4)
        [249, 499, 749, 999]
    """
    if not 1 <= kept <= steps:
        raise UserError(f"cannot respace {steps} steps to {kept}; choose between 1 and {steps}")
    return [round(steps * i / kept) - 1 for i in range(1, kept + 1)]


def respaced_betas(original: Tensor, timesteps: list[int]) -> Tensor:
    """Betas (K,) over the kept of N steps: 1 - abar_{u_j} / abar_{u_{j-1}}, so that alphas_cumprod agrees at every kept step.

    original: (N,) betas, float64; timesteps: the K steps u_j, rising, as `respaced_timesteps` gives them.
    """
    kept = (1 - original).cumprod(0)[timesteps]
    before = torch.cat([torch.ones(1, dtype=kept.dtype), kept[:-1]])
    return 1 - kept / before


def check_depth(tau: int, steps: int, unnoised: int = 0) -> None:
    """Raises UserError, for a configuration, if noise depth tau lies beyond the respaced steps that can be noised."""
    if tau > steps - unnoised:
        but = f", of which {unnoised} cannot be noised" if unnoised else ""
        raise UserError(f"tau is {tau}, but the prior is respaced to {steps} steps{but}; lower tau or raise steps")


def q_sample(denoiser: Denoiser, x: Tensor, t: int, noise: ImageNoise) -> Tensor:
    """Noise x (B, C, H, W) to step t of the denoiser: sqrt(abar_t) x + sqrt(1 - abar_t) n   (Ho et al. 2020, eq. 4)."""
    level = float(denoiser.alphas_cumprod[t])
    return math.sqrt(level) * x + math.sqrt(1 - level) * noise.like(x)
