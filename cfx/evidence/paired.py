"""Paired statistics of claims: mean, interval over images, p-value by sign flips, and Benjamini-Hochberg over many of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, t

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]  # (N, H, W, C)
Answer = Callable[[Images], Floats]  # images to P(class), (N,), or to several probabilities, (N, K)

FLIPS = 9_999  # so that the smallest p-value, 1 / 10,000, survives Benjamini-Hochberg over a few hundred claims


class Effect(NamedTuple):
    """A mean over images with its interval; `p` is that of no effect (sign flips, two-sided)."""

    mean: float
    low: float
    high: float
    p: float
    n: int


def paired_effects(differences: Floats, confidence: float = 0.95, flips: int = FLIPS) -> list[Effect]:
    """An Effect of each column of differences (N, M), one image a row; NaN: that image says nothing of that claim.

    Interval: Student's t over images, cut off at -1 and 1, which no change of a probability exceeds. p: the share of random sign
    flips whose |mean| reaches the observed one, itself included (exchangeable signs are what "no effect" of a paired difference
    means); the flips are the same for every call.
    """
    known = np.isfinite(differences)
    filled, n = np.where(known, differences, 0.0), known.sum(0)
    mean = filled.sum(0) / np.maximum(n, 1)
    spread = np.sqrt((np.where(known, filled - mean, 0.0) ** 2).sum(0) / np.maximum(n - 1, 1) / np.maximum(n, 1))
    reach = t.ppf((1 + confidence) / 2, np.maximum(n - 1, 1)) * spread
    signs = np.random.default_rng(0).integers(0, 2, (flips, len(differences)), np.int8) * 2.0 - 1
    flipped = np.abs(signs @ filled)
    p = (1 + (flipped >= np.abs(filled.sum(0)) - 1e-12).sum(0)) / (flips + 1)
    return [
        Effect(float(m), float(min(m, max(m - r, -1))), float(max(m, min(m + r, 1))), float(value), int(count))
        if count > 1
        else Effect(float(m), -1.0, 1.0, 1.0, int(count))
        for m, r, value, count in zip(mean, reach, p, n, strict=True)
    ]


def discoveries(p_values: Floats | list[float], rate: float = 0.05) -> NDArray[np.bool_]:
    """Which claims stand when at most `rate` of those that stand may be false (Benjamini and Hochberg 1995), (M,)."""
    values = np.asarray(p_values, np.float64)
    return false_discovery_control(values) <= rate if len(values) else np.zeros(0, np.bool_)
