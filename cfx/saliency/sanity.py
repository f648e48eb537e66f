"""Sanity check of a map by cascading randomisation (Adebayo et al. 2018, arXiv:1810.03292): does it depend on the weights?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cfx.errors import UserError
from cfx.metrics.agreement import pearson_correlation, rank_correlation


class Stage(NamedTuple):
    """How alike maps stayed to the originals once `randomised` was randomised too: absolute correlation, mean over images."""

    randomised: str
    rank: float
    pearson: float
    rank_top: float  # over the patches in the top share of the original map
    pearson_top: float


def cascade(
    network: nn.Module, saliency: Callable[[], Tensor], names: Sequence[str], seed: int = 0, top: float = 0.2
) -> list[Stage]:
    """Randomise the named parts one after the other, without putting any back; the network is left randomised: give a copy.

    saliency: makes the map (B, h, w) with the network as it is. names: submodules and parameters, from the head downwards (for a
    HiT, `parts`). A weight is drawn anew from a normal distribution with its own tensor's mean and deviation.
    """
    generator = torch.Generator().manual_seed(seed)
    original = saliency().flatten(1)
    chosen = original.argsort(dim=1, descending=True)[:, : max(2, round(top * original.shape[1]))]
    stages = []
    for name in names:
        _randomise(network, name, generator)
        now = saliency().flatten(1)
        pairs = ((original, now), (original.gather(1, chosen), now.gather(1, chosen)))
        (rank, pearson), (rank_top, pearson_top) = (
            (float(rank_correlation(*pair).abs().mean()), float(pearson_correlation(*pair).abs().mean())) for pair in pairs
        )
        stages.append(Stage(name, rank, pearson, rank_top, pearson_top))
    return stages


@torch.no_grad()
def _randomise(network: nn.Module, name: str, generator: torch.Generator) -> None:
    parameters = [value for key, value in network.named_parameters() if key == name or key.startswith(f"{name}.")]
    if not parameters:
        raise UserError(f"{type(network).__name__} has no part {name!r}; give names of named_modules() or named_parameters()")
    for value in parameters:
        drawn = torch.randn(value.shape, generator=generator).to(value)
        value.copy_(value.mean() + value.std(correction=0) * drawn)
