"""How far reviewers agree on the explanations that both marked: raw, and beyond what chance would give."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from warehouse.lens.fetch import Row

Subject = tuple[str, str, int]  # image_id, method, seed


class Pair(NamedTuple):
    """Two reviewers. shared: explanations that both marked; agreed: with the same mark; low, high: 95 % interval of the share
    that agrees (Wilson 1927); kappa: Cohen 1960, doi:10.1177/001316446002000104, None where both gave one mark to all."""

    reviewers: tuple[str, str]
    shared: int
    agreed: int
    low: float
    high: float
    kappa: float | None


class Disagreement(NamedTuple):
    """An explanation that was marked differently: reviewer -> mark."""

    subject: Subject
    marks: dict[str, str]


def by_subject(marks: Sequence[Row]) -> dict[Subject, dict[str, str]]:
    """Each explanation's marks by reviewer; marks: rows of the view, those on attributes left out."""
    found = defaultdict[Subject, dict[str, str]](dict)
    for row in marks:
        if row["image_id"] is not None:
            found[row["image_id"], row["method"], row["seed"]][row["reviewer"]] = row["mark"]
    return dict(found)


def agreement(marks: dict[Subject, dict[str, str]]) -> list[Pair]:
    """Every two reviewers who marked an explanation in common, those with most of them first."""
    reviewers = sorted({reviewer for given in marks.values() for reviewer in given})
    pairs = []
    for first, second in combinations(reviewers, 2):
        both = [(given[first], given[second]) for given in marks.values() if first in given and second in given]
        if both:
            pairs.append(_pair((first, second), both))
    return sorted(pairs, key=lambda pair: (-pair.shared, pair.reviewers))


def disagreements(marks: dict[Subject, dict[str, str]]) -> list[Disagreement]:
    """Explanations of which not all marks are the same, by image."""
    return [Disagreement(subject, given) for subject, given in sorted(marks.items()) if len(set(given.values())) > 1]


def _pair(reviewers: tuple[str, str], both: list[tuple[str, str]]) -> Pair:
    from scipy.stats import binomtest  # both take a moment to import, and few requests come here
    from sklearn.metrics import cohen_kappa_score

    agreed = sum(one == other for one, other in both)
    interval = binomtest(agreed, len(both)).proportion_ci(method="wilson")
    one_mark = len({mark for marks in both for mark in marks}) == 1
    kappa = math.nan if one_mark else float(cohen_kappa_score(*zip(*both, strict=True)))
    return Pair(reviewers, len(both), agreed, interval.low, interval.high, None if math.isnan(kappa) else kappa)
