"""What cfx's trainings share: seeded weights, who is held out, how the learning rate goes, one step of the optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cfx.errors import UserError

FEWEST = 10  # images, so that a tenth is one


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from torch's global generator on the CPU, which alone makes initial weights, and leave it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def check_labels(images: Tensor, labels: Tensor, names: Sequence[str]) -> None:
    """Raises UserError unless images (N, 3, H, W) have labels that fit the names: class ids (N,), or a column a name (N, K)."""
    if len(images) < FEWEST or len(images) != len(labels):
        raise UserError(f"{len(images)} images with {len(labels)} labels; training needs ten or more, one label each")
    if labels.ndim == 2 and labels.shape[1] != len(names):
        raise UserError(f"labels have {labels.shape[1]} columns for {len(names)} names: {', '.join(names)}")
    if labels.ndim == 1 and not 0 <= int(labels.min()) <= int(labels.max()) < len(names):
        raise UserError(f"labels run from {labels.min()} to {labels.max()}, but the classes are {', '.join(names)}")


def hold_out(n: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Positions 0 .. n - 1 in two: a tenth that is held out, and those that are trained on."""
    order = torch.randperm(n, generator=chance)
    return order[: n // 10], order[n // 10 :]


def cosine(step: int, steps: int, warm_up: int) -> float:
    """Share of the learning rate at one step: half a cosine from 1 down to 0, times a linear rise over `warm_up` steps."""
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps))


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """One learning rate for every group of parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def descend(loss: Tensor, optimizer: Optimizer, clipped: nn.Module | None = None) -> float:
    """One step down the gradient of a scalar loss; the norm of `clipped`'s gradients is first brought to 1 at most.

    Returns the loss.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if clipped is not None:
        nn.utils.clip_grad_norm_(clipped.parameters(), 1.0)
    optimizer.step()
    return loss.item()
