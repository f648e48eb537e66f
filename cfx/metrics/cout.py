"""COUT, counterfactual transition (Khorram and Fuxin 2022, arXiv:2203.15209): how soon the change alone flips the class."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cfx.types import Classifier

STEPS = 50  # the published number of reveals


class Cout(NamedTuple):
    """(B,) each, float64; NaN for a counterfactual that equals its image, which has no pixel to begin with."""

    value: Tensor  # in [-1, 1]
    reference: Tensor  # as ACE's eval_utils/cout_metrics.py sums it: larger by (ceil(HW / s) s) / HW, up to 2 percent


@torch.no_grad()
def cout(classifier: Classifier, x: Tensor, x_cf: Tensor, source: Tensor, target: Tensor) -> Cout:
    """Area under p(target) minus area under p(source) while the changed pixels are pasted into x, the most changed first.

    x, x_cf: (B, 3, H, W) in [-1, 1]; source: (B,), the class predicted on x; target: (B,). A classifier of one logit l answers
    (0, l), for which this is the binary COUT: softmax[1] is sigmoid(l).

    Examples:
        One pixel of 64 decides. Pasted first, it takes the answer from -1 to 1 at once: 63 of 64 steps lie at 1.

        >>> def first_pixel(x):
        ...     return torch.stack([-50 * x[:, 0, 0, 0], 50 * x[:, 0, 0, 0]], dim=1)
        >>> x = torch.full((1, 3, 8, 8), -1.0)
        >>> x_cf = x.clone()
        >>> x_cf[0, :, 0, 0] = 1.0
        >>> round(cout(first_pixel, x, x_cf, torch.tensor([0]), torch.tensor([1])).value.item(), 3)
        0.984
    """
    ranks, step = _ranks((x_cf - x).abs().sum(1)), max(1, x.shape[-2] * x.shape[-1] // STEPS)
    pixels = ranks[0].numel()
    gains = []
    for shown in range(0, pixels + step, step):
        p = classifier(torch.where((ranks < shown)[:, None], x_cf, x)).softmax(1).double()
        gains.append(p.gather(1, target[:, None])[:, 0] - p.gather(1, source[:, None])[:, 0])
    curve = torch.stack(gains, dim=1)
    area = curve.sum(1) - (curve[:, 0] + curve[:, -1]) / 2  # of unit steps
    area = torch.where((x_cf == x).flatten(1).all(1), torch.nan, area)
    return Cout(area / (curve.shape[1] - 1), area * step / pixels)


def _ranks(change: Tensor) -> Tensor:
    """Each pixel's place, the most changed first, (B, H, W); ties go row by row."""
    order = change.flatten(1).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1).view(change.shape)
