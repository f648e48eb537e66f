"""What an explanation costs: UNet evaluations, there and back, and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cfx.types import Denoiser, Step
from tasks.stages.prompts import Prompted


class Counted:
    """A denoiser that counts its UNet evaluations, in images: those of the method alone, also where one was known already."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser, self.forward, self.backward = denoiser, 0, 0
        self.alphas_cumprod = denoiser.alphas_cumprod
        self.drawn_size = getattr(denoiser, "drawn_size", lambda height, width: None)
        self.autoencoder = getattr(denoiser, "autoencoder", None)
        self._noise_of_classes = getattr(denoiser, "noise_of_classes", None)
        self._through_network = not getattr(denoiser, "skips_gradient", False)

    def step(self, z: Tensor, t: int) -> Step:
        self.forward += len(z)
        if z.requires_grad and torch.is_grad_enabled() and self._through_network:
            z = z.view_as(z)  # a node of its own, passed once a vector-Jacobian product
            z.register_hook(self._passed)
        return self._denoiser.step(z, t)

    @property
    def noise_of_classes(self) -> Callable[[Tensor, int, Sequence[str]], Tensor] | None:
        """What a generator sees in z (B, C, h, w) at step t given each image's class; none of a prior without classes."""
        known = self._noise_of_classes
        if known is None:
            return None

        def counted(z: Tensor, t: int, classes: Sequence[str]) -> Tensor:
            self.forward += len(z)
            noise: Tensor = known(z, t, classes)
            return noise

        return counted

    @property
    def spent(self) -> int:
        """What they cost, in evaluations: to differentiate through one takes about two more."""
        return self.forward + 2 * self.backward

    def _passed(self, gradient: Tensor) -> None:
        self.backward += len(gradient)


@dataclass(frozen=True)
class Cost:
    """What one image cost on one rung of the ladder."""

    nfe_forward: int
    nfe_backward: int
    seconds: float


def stopwatch(prompted: Prompted | None) -> Callable[[Counted, int, int], Cost]:
    """Starts now. Called with the denoiser, the number of images and how many it saw with those that filled the batches up,
    it returns the cost of one, TIME's own UNet included."""
    started, before = time.perf_counter(), prompted.evaluated if prompted else 0

    def cost(counted: Counted, n: int, seen: int) -> Cost:
        forward = counted.forward + (prompted.evaluated - before if prompted else 0)
        return Cost(forward // seen, counted.backward // seen, (time.perf_counter() - started) / n)

    return cost


def total(costs: Sequence[Cost]) -> Cost:
    """Of several rungs."""
    return Cost(sum(c.nfe_forward for c in costs), sum(c.nfe_backward for c in costs), sum(c.seconds for c in costs))
