"""What no attribute names: where in an image nothing that the oracle looks at lies, and counterfactuals that change only that.

A classifier may lean on what no attribute describes, a mark in a corner or the grain of a scanner; ranking attributes cannot show
it. But explanations change it. So their changes are kept only where the oracle does not look, and the classifier is queried
again: what still moves its answer lies outside the attributes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from cfx.metrics.agreement import enlarged

CELLS = 8  # the image is cut into CELLS x CELLS
NOTICED = 0.02  # mean |change| of a probability from which on a cell's content is something that the oracle looks at
SHIFTS = (1, 5)  # whose content a cell is filled with: that of the images so many places before it


def mean_in_cells(values: Tensor) -> Tensor:
    """The mean of values (B, H, W) in each cell, (B, CELLS, CELLS).

    Examples:
        >>> values = torch.zeros(1, 64, 64)
        >>> values[0, :4, :8] = 1.0  # half of the first cell
        >>> mean_in_cells(values)[0, 0, :2].tolist()
        [0.5, 0.0]
    """
    return adaptive_avg_pool2d(values[:, None], CELLS)[:, 0]


@torch.no_grad()
def named_cells(probabilities: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Which cells hold something that the oracle looks at, (CELLS, CELLS) bool; `probabilities` maps images to (B, A).

    A cell counts if filling it, with half a cell around it, with the content of other images moves any attribute's probability by
    more than NOTICED, mean over x (B, 3, H, W) and SHIFTS. Images should be framed alike. Two images or more: of one there is
    nothing to fill it with, so all its cells count.
    """
    if len(x) < 2:
        return torch.ones(CELLS, CELLS, dtype=torch.bool)
    before = probabilities(x)
    named = torch.zeros(CELLS, CELLS, dtype=torch.bool)
    height, width = x.shape[-2:]
    for row in range(CELLS):
        for column in range(CELLS):
            rows, columns = _with_half_around(row, height), _with_half_around(column, width)
            moved = torch.zeros(before.shape[1])
            for shift in SHIFTS:
                filled = x.clone()
                filled[:, :, rows, columns] = x.roll(shift, 0)[:, :, rows, columns]
                moved += (probabilities(filled) - before).abs().mean(0).cpu() / len(SHIFTS)
            named[row, column] = bool(moved.max() > NOTICED)
    return named


def _with_half_around(cell: int, side: int) -> slice:
    return slice(max(0, round((cell - 0.5) * side / CELLS)), min(side, round((cell + 1.5) * side / CELLS)))


def residual(x: Tensor, x_cf: Tensor, named: Tensor) -> Tensor:
    """x (B, 3, H, W) with what its counterfactual x_cf changed outside the named cells, and nothing else."""
    inside = enlarged(named[None].float(), (x.shape[-2], x.shape[-1])).bool()
    return torch.where(inside[:, None], x, x_cf)
