"""Weights by which attributes go with no class any more, so that a network does not learn the bias of its table.

Reweighing (Kamiran & Calders 2012: P(class) P(attribute) / P(class, attribute)) of several attributes at once, by iterative
proportional fitting (Deming & Stephan 1940).
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 200
CLOSE = 1e-3  # how far a share may be from where it should be
MOST = 20.0  # times as often as in the table: beyond that a few images would be all that is learned


def balancing_weights(classes: Tensor, attributes: Tensor) -> tuple[Tensor, list[int]]:
    """Weights (N,) of mean 1, and which attributes they balance.

    classes: (N,) ids; attributes: (N, A) zeros and ones. Drawn by the weights, an image of any class has a balanced attribute
    equally often. An attribute that some class has always or never cannot be balanced: it is the class itself, or tells too
    little of it.

    Examples:
        >>> weights, balanced = balancing_weights(torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([[1, 1, 0, 0, 0, 1]]).T)
        >>> weights.tolist(), balanced
        ([0.75, 0.75, 1.5, 0.75, 0.75, 1.5], [0])
    """
    ids = torch.unique(classes, return_inverse=True)[1]
    count = int(ids.max()) + 1
    cells = [2 * ids + column for column in attributes.long().T]  # (N,) of each attribute
    balanced = [at for at, cell in enumerate(cells) if len(torch.unique(cell)) == 2 * count]
    weights = torch.ones(len(ids), dtype=torch.float64)
    of_class = torch.bincount(ids, minlength=count) / len(ids)
    for _ in range(ROUNDS):
        furthest = 0.0
        for at in balanced:
            yes = float(attributes[:, at].double().mean())
            wanted = (of_class[:, None] * torch.tensor([1 - yes, yes])).flatten().double() * len(ids)
            there = torch.zeros(2 * count, dtype=torch.float64).index_add_(0, cells[at], weights)
            furthest = max(furthest, float((there / wanted - 1).abs().max()))
            weights *= (wanted / there)[cells[at]]
        if furthest < CLOSE:
            break
    weights = weights.clamp(max=MOST)
    return weights / weights.mean(), balanced
