"""Straight paths from an image to noise (flow matching, rectified flow) as a diffusion model, by change of variables.

A path is x_s = (1 - s) x0 + s eps, and the network learns its velocity v = eps - x0   (Lipman et al. 2023, arXiv:2210.02747; Liu
et al. 2023, arXiv:2209.03003). Over n = sqrt((1 - s)^2 + s^2) it is the state of a diffusion model, z = x_s / n, with signal
sqrt(abar) = (1 - s) / n and noise sigma = s / n: so 1 / n = signal + sigma, and x0 = x_s - s v is
(z - sigma v) / (signal + sigma).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cfx.errors import UserError
from cfx.types import Config


class Flow(Config):
    """How a flow's steps run: what diffusers' FlowMatchEulerDiscreteScheduler says. Field names are its own.

    Of a model whose shift depends on the image's size (`use_dynamic_shifting`), shift is exp(mu) at the size that it draws.
    """

    num_train_timesteps: int = Field(1000, ge=1, description="what the network is told is s times this")
    shift: float = Field(1.0, gt=0, description="of steps towards noise: s = shift u / (1 + (shift - 1) u), u evenly spaced")

    prediction_type: ClassVar[str] = "flow_velocity"  # eps - x0
    skips_gradient: ClassVar[bool] = True  # through the network (`DDPM`)
    trained_timesteps: ClassVar[None] = None  # all of them

    def respaced(self, steps: int | None = None, summed: bool = False) -> tuple[list[float], Tensor]:
        """What the network is told at `steps` steps, (K,) rising, and their betas, (K,) float64; default: num_train_timesteps of
        them.

        u = 1/K, 2/K, ... 1, as in the pipelines of diffusers: the last step is noise alone. `summed` makes no difference.
        Raises UserError for more steps than there are.
        """
        kept = self.num_train_timesteps if steps is None else steps
        if not 1 <= kept <= self.num_train_timesteps:
            raise UserError(f"cannot respace a flow to {kept} steps; choose between 1 and {self.num_train_timesteps}")
        u = torch.arange(1, kept + 1, dtype=torch.float64) / kept
        s = self.shift * u / (1 + (self.shift - 1) * u)
        levels = (1 - s).square() / ((1 - s).square() + s.square())
        before = torch.cat([torch.ones(1, dtype=torch.float64), levels[:-1]])
        return (s * self.num_train_timesteps).tolist(), 1 - levels / before

    def state(self, z: Tensor, signal: float, sigma: float) -> Tensor:
        """x_s, which the network is shown for z."""
        return z / (signal + sigma)

    def clean(self, velocity: Tensor, z: Tensor, signal: float, sigma: float) -> Tensor:
        """The clean estimate that follows from the network's answer."""
        return (z - sigma * velocity) / (signal + sigma)

    def noise(self, velocity: Tensor, z: Tensor, signal: float, sigma: float) -> Tensor:
        """The noise that follows from the network's answer: eps = x0 + v, so z = (signal + sigma) eps - signal v."""
        return (z + signal * velocity) / (signal + sigma)
