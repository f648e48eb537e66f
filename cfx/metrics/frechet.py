"""Fréchet and kernel distance of two sets of features (FID, Heusel et al. 2017, arXiv:1706.08500; KID, arXiv:1801.01401)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from cfx.errors import UserError


class Moments(NamedTuple):
    """Mean and covariance of any number of rows, in no more memory than two covariance matrices take.

    root: (K, 1 + D) float64, K <= 2 (1 + D), with root^T root = [1, X]^T [1, X]: the rows themselves while they are few, their
    triangular factor when they are many. That holds n, sum and outer sum, without squaring, so nothing cancels.
    """

    root: Tensor

    @staticmethod
    def of(rows: Tensor) -> Moments:
        """rows: (N, D)."""
        rows = rows.double()
        return Moments(_condensed(torch.cat([rows.new_ones(len(rows), 1), rows], dim=1)))

    @staticmethod
    def together(parts: Iterable[Moments]) -> Moments:
        """Of the rows of all parts, at least one."""
        first, *others = parts
        for part in others:
            first = Moments(_condensed(torch.cat([first.root, part.root])))
        return first

    @property
    def n(self) -> int:
        """How many rows."""
        return round(float(self.root[:, 0].square().sum()))

    def spread(self) -> tuple[Tensor, Tensor]:
        """Mean (D,), and a factor F (R, D) of the covariance (ddof 1): F^T F. Raises UserError for less than two rows."""
        if self.n < 2:
            raise UserError(f"a covariance needs two rows, but there are {self.n}")
        triangle = torch.linalg.qr(self.root, mode="r").R  # [[±sqrt n, ±sqrt n mean], [0, factor of the centred scatter]]
        return triangle[0, 1:] / triangle[0, 0], triangle[1:, 1:] / (self.n - 1) ** 0.5


def frechet_distance(a: Moments, b: Moments) -> float:
    """|mean_a - mean_b|^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)), [0, inf).

    With cov = F^T F the trace of the root is the sum of the singular values of F_a F_b^T: no root of a matrix is taken, and
    few rows in many dimensions are no special case.

    Examples:
        Two sets of which one is moved by 3 along the first axis: their covariances agree, so 9 is left.

        >>> rows = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
        >>> round(frechet_distance(Moments.of(rows), Moments.of(rows + torch.tensor([3.0, 0.0]))), 6)
        9.0
    """
    (mean_a, factor_a), (mean_b, factor_b) = a.spread(), b.spread()
    trace_root = torch.linalg.svdvals(factor_a @ factor_b.T).sum()
    traces = factor_a.square().sum() + factor_b.square().sum()
    return max(0.0, float((mean_a - mean_b).square().sum() + traces - 2 * trace_root))


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """KID: unbiased squared maximum mean discrepancy under the kernel (x.y / D + 1)^3. May be slightly negative.

    a: (N, D), b: (M, D), two rows each at least, in any order. Unlike FID, it has no bias at small n.
    Raises UserError for fewer rows.

    Examples:
        >>> rows = torch.tensor([[1.0], [1.0]])
        >>> kernel_distance(rows, rows), kernel_distance(rows, -rows)  # 8 + 8 - 2 * 0
        (0.0, 16.0)
    """
    if min(len(a), len(b)) < 2:
        raise UserError(f"a kernel distance needs two rows of each set, but there are {len(a)} and {len(b)}")
    a, b = a.double(), b.double()
    return float(_within(a) + _within(b) - 2 * _kernel(a, b).mean())


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _within(rows: Tensor) -> Tensor:
    """Mean kernel of two different rows."""
    kernel, n = _kernel(rows, rows), len(rows)
    return (kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))


def _condensed(root: Tensor) -> Tensor:
    return root if len(root) <= 2 * root.shape[1] else torch.linalg.qr(root, mode="r").R
