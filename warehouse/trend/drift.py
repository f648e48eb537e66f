"""Whether new images are of another kind than the earlier ones: two-sample tests of scipy that hold in the far tail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import MonteCarloMethod, chi2_contingency, ks_2samp
from scipy.stats.contingency import association

from warehouse.trend.tails import Floats

WORTH_DRAWING = 0.01  # of the asymptotic p-value: above it no draws are made to have the exact one
DRAWS = 20  # times 1 / level


class Drift(NamedTuple):
    """size: from 0, alike, to 1, nothing in common. p: chance of as much between two draws from the same images."""

    size: float
    p: float


def of_values(new: Floats, earlier: Floats) -> Drift:
    """Kolmogorov and Smirnov's largest distance between two distributions; ties make its p-value larger, never smaller.

    Examples:
        >>> of_values(np.arange(50.0), np.arange(50.0)).size, of_values(np.zeros(50), np.ones(50)).size
        (0.0, 1.0)
    """
    found = ks_2samp(new, earlier)
    return Drift(float(found.statistic), float(found.pvalue))


def of_classes(new: Sequence[str], earlier: Sequence[str], level: float) -> Drift:
    """Pearson's chi-square of the classes' counts; size: Cramer's V.

    In the far tail its asymptotic p-value is too small wherever a class is rare, so that one that may matter is drawn anew: of
    tables with the same margins, enough of them to see chances of `level`.

    Examples:
        >>> of_classes(["cat"] * 40 + ["dog"] * 40, ["cat"] * 60 + ["dog"] * 60, 0.001)
        Drift(size=0.0, p=1.0)
    """
    classes = sorted({*new, *earlier})
    if len(classes) < 2:
        return Drift(0.0, 1.0)
    table = np.array([[list(side).count(name) for name in classes] for side in (new, earlier)])
    size, p = float(association(table, method="cramer")), float(chi2_contingency(table, correction=False).pvalue)
    if p < WORTH_DRAWING:
        method = MonteCarloMethod(n_resamples=int(DRAWS / level), rng=np.random.default_rng(0))
        p = float(chi2_contingency(table, correction=False, method=method).pvalue)
    return Drift(size, p)
