"""Pieces of a counterfactual: each region that it changed, put alone into the original, and all but it.

A counterfactual says that its changes together turn the answer, not which of them does. Asked about each piece by itself, the
classifier says so, with no oracle, no further model and no name. What a piece does alone and what the others do without it bound
its share of the answer from both sides, as insertion and deletion do for pixels (Petsiuk et al. 2018, arXiv:1806.07421).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.ndimage import binary_dilation, center_of_mass, label
from torch import Tensor

from cfx.errors import UserError

JOINED = 1  # pixels that a region grows by before regions that touch are one


class Piece(NamedTuple):
    """One changed region of an image. alone, without: (3, H, W), the original with this region alone changed, or all but it."""

    mask: Tensor  # (H, W) bool
    centre: tuple[float, float]  # row and column as fractions of the height and width
    alone: Tensor
    without: Tensor


def pieces(x: Tensor, x_cf: Tensor, threshold: float = 0.1, smallest: float = 0.002, most: int = 6) -> list[Piece]:
    """What a counterfactual changed of an image, each (3, H, W) in [-1, 1], in connected regions; the most changed first.

    A pixel is changed if a channel differs by more than `threshold`; regions under `smallest` of the image are left out, and all
    after the first `most`. Raises UserError for images of different shapes.

    Examples:
        Two squares are changed, the first by more; each comes back as a piece of its own:

        >>> x = torch.zeros(3, 32, 32)
        >>> x_cf = x.clone()
        >>> x_cf[:, 4:12, 4:12], x_cf[:, 20:26, 20:26] = 1.0, 0.5
        >>> [[float(part) for part in piece.centre] for piece in pieces(x, x_cf)]
        [[0.25, 0.25], [0.71875, 0.71875]]
    """
    if x.shape != x_cf.shape:
        raise UserError(f"the original is {tuple(x.shape)} and the counterfactual {tuple(x_cf.shape)}; they must be of one shape")
    change = (x_cf - x).abs().amax(0).cpu()
    regions, found = label(binary_dilation((change > threshold).numpy(), iterations=JOINED))
    masks = [torch.from_numpy(regions == number) for number in range(1, found + 1)]
    large = [mask for mask in masks if mask.sum() >= smallest * mask.numel()]
    largest = sorted(large, key=lambda mask: -float(change[mask].sum()))[:most]
    return [_piece(x, x_cf, mask) for mask in largest]


def _piece(x: Tensor, x_cf: Tensor, mask: Tensor) -> Piece:
    row, column = center_of_mass(mask.numpy())
    inside, (height, width) = mask.to(x.device), mask.shape
    centre = ((row + 0.5) / height, (column + 0.5) / width)
    return Piece(mask, centre, torch.where(inside, x_cf, x), torch.where(inside, x, x_cf))
