"""Layer ablations of a HiT (thesis, figure 6.5b): its class token is a sum over layers, so layers can be left out of the sum."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cfx.networks.hit import HiT


class LayerAblation(NamedTuple):
    """Accuracy of decisions from part of the sum, layer by layer; the initial class token always stays in it."""

    exclusive: list[float]  # this layer alone
    excluded: list[float]  # all but this layer
    inserted: list[float]  # the layers up to and with this one
    removed: list[float]  # the layers after this one


@torch.no_grad()
def layer_ablation(network: HiT, x: Tensor, labels: Tensor) -> LayerAblation:
    """x: (B, 3, size, size), normalised; labels: (B,) class ids. The layers' updates are those of the full network."""
    updates = torch.stack([attended.update for attended in network.walk(x)])  # (L, B, D)
    depth = len(updates)
    one, first = torch.eye(depth), torch.ones(depth, depth).tril()

    def accuracies(kept: Tensor) -> list[float]:
        tokens = network.initial() + torch.einsum("al,lbd->abd", kept.to(updates), updates)
        return [float((network.decide(cls).argmax(1) == labels).float().mean()) for cls in tokens]

    return LayerAblation(accuracies(one), accuracies(1 - one), accuracies(first), accuracies(1 - first))
