"""What has changed tonight, quantity by quantity, and which changes are neither chance nor too small to matter.

At most FALSE_ALARMS is the chance that an unchanged classifier on an unchanged stock of images has one alarm or more in NIGHTS
nights, over all quantities together. The level of a single test is that, divided by nights and quantities (Bonferroni, as Dunn
1961): it holds however the quantities depend on each other and the nights on the images that they share, which no chart of
independent nights could say. Means are tested by bounds on a permutation test (`warehouse.trend.tails`), distributions by
Kolmogorov and Smirnov's and the chi-square test (`warehouse.trend.drift`). Of the explained share and of places a run knows the
intervals alone; their difference is tested as Zou and Donner (2008) make an interval of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import NamedTuple

import duckdb
import numpy as np
from scipy.stats import norm

from warehouse.lens.fetch import Row
from warehouse.trend.drift import Drift, of_classes, of_values
from warehouse.trend.nights import Key, Night, Tonight, answers_of, series_of, values_of
from warehouse.trend.tails import Exchange, critical

FALSE_ALARMS = 0.05  # chance of any in NIGHTS nights, if nothing changes
NIGHTS = 30
FEWEST = 20  # images on either side: 16 signs alike are about as rare as the level of one test
MEANS = ("accuracy", "attribute", "property", "confidence")
INTERVALS = ("explained", "place")
LEAST = {"accuracy": 0.05, "confidence": 0.05, "explained": 0.1}  # changes that matter; of effects: the run's own margin
DISTANCE = 0.1  # of two distributions
TINY = 1e-9  # rounding
Z95 = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Change:
    """One quantity tonight against earlier nights.

    kind, name, target: as in the view `trend`, where target is the class. earlier, tonight: means over all images, the earlier
    ones each once; None of classes. change: of images in common against their own earlier values, of new images against the
    earlier ones that tonight does not have; of distributions (measured, predicted) their distance, 0 to 1. low, high: interval of
    the change, simultaneous over all quantities and a month of nights; None for distributions, which have p instead. n: images
    that count, of which `common` were audited before. least: what matters. alarm: the change is at least that, and not by chance.
    """

    kind: str
    name: str
    target: str | None
    earlier: float | None
    tonight: float | None
    change: float
    low: float | None
    high: float | None
    p: float | None
    n: int
    common: int
    least: float
    alarm: bool

    @property
    def key(self) -> Key:
        return self.kind, self.name, self.target or ""

    @property
    def subject(self) -> str:
        """What is watched, in words: accuracy; effect of glasses on smiling."""
        match self.kind:
            case "explained":
                return f"explained share of {self.target}"
            case "measured":
                return f"{self.name} of the images"
            case "attribute" | "property":
                return f"effect of {self.name} on {self.target}"
            case "place":
                return f"effect of the {self.name} on {self.target}"
        return self.name

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            moved = "" if self.earlier is None else f" {self.earlier:.3g} → {self.tonight:.3g},"
            return f"{self.subject}:{moved} distance {self.change:.2f} (p {self.p:.1g}) on {self.n} new images"
        sides = f"{self.earlier:.2f} → {self.tonight:.2f}"
        return f"{self.subject}: {sides}, changed by {self.change:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


class Compared(NamedTuple):
    """level: of one test, two-sided. series: rows of the view `trend` by quantity, of tonight and the earlier nights."""

    level: float
    changes: list[Change]
    series: dict[Key, list[Row]]


def compared(lens: duckdb.DuckDBPyConnection, tonight: Night, earlier: Sequence[Night]) -> Compared:
    """Every quantity of which either side has enough.

    Properties and places where one of these nights found that the classifier relies on them; the others count as tests all the
    same, because tonight chooses, too.
    """
    series = series_of(lens, [*earlier, tonight])
    if not earlier:
        return Compared(FALSE_ALARMS / NIGHTS, [], series)
    values = {key: found for key, found in values_of(lens, tonight, earlier) if _enough(key, found.exchange)}
    answers = answers_of(lens, tonight, earlier)
    intervals = {key: rows for key, rows in series.items() if key[0] in INTERVALS and _on_both(rows, tonight)}
    answered = min(map(len, answers)) >= FEWEST
    level = FALSE_ALARMS / NIGHTS / max(1, len(values) + len(intervals) + answered)
    found = [
        *(_mean(key, of, level, tonight) for key, of in values.items() if key[0] in MEANS),
        *(_interval(key, rows, level, tonight) for key, rows in intervals.items()),
        *(_drifted(key, of.means, of_values(of.exchange.new, of.exchange.earlier), level, len(of.exchange.new))
          for key, of in values.items() if key[0] not in MEANS),
        *([_drifted(("predicted", "predicted classes", ""), (None, None), of_classes(*answers, level), level, len(answers[0]))]
          if answered else []),
    ]  # fmt: skip
    confirmed = {key for key, rows in series.items() if any(row["confirmed"] for row in rows)}
    return Compared(
        level, [change for change in found if change.kind not in ("property", "place") or change.key in confirmed], series
    )


def _enough(key: Key, exchange: Exchange) -> bool:
    """Of a distribution the new images count: those in common are the same images."""
    sides = (exchange.n,) if key[0] in MEANS else (len(exchange.new), len(exchange.earlier))
    return min(sides) >= FEWEST


def _on_both(rows: Sequence[Row], tonight: Night) -> bool:
    """Whether tonight and an earlier night have the quantity with its interval."""
    known = [row["run_id"] == tonight.run_id for row in rows if row["low"] is not None and row["n"] >= FEWEST]
    return True in known and False in known


def _mean(key: Key, of: Tonight, level: float, tonight: Night) -> Change:
    fall, rise = critical(of.exchange, level)
    change, least = of.exchange.change, LEAST.get(key[0], tonight.margin)
    low, high = change - rise, change - fall
    n, common = of.exchange.n, len(of.exchange.differences)
    return Change(*_named(key), *of.means, change, low, high, None, n, common, least, _matters(change, low, high, least))


def _matters(change: float, low: float, high: float, least: float) -> bool:
    """Whether a change is not chance, and not too small."""
    return (low > TINY or high < -TINY) and abs(change) >= least - TINY


def _interval(key: Key, rows: Sequence[Row], level: float, tonight: Night) -> Change:
    """From 95 % intervals, made as wide as the level asks. The earlier nights' is the median one, as wide as one night's alone,
    because they share images.

    An end of the difference takes the near end of one interval and the far end of the other (Zou and Donner 2008, equation 3).
    """
    (now,) = (row for row in rows if row["run_id"] == tonight.run_id)
    before = [row for row in rows if row["run_id"] != tonight.run_id and row["low"] is not None]
    value, low, high = (float(np.median([row[name] for row in before])) for name in ("value", "low", "high"))
    wider, change = float(norm.isf(level / 2)) / Z95, now["value"] - value
    bottom = change - wider * hypot(now["value"] - now["low"], high - value)
    top = change + wider * hypot(now["high"] - now["value"], value - low)
    least = LEAST.get(key[0], tonight.margin)
    moved = _matters(change, bottom, top, least)
    return Change(*_named(key), value, now["value"], change, bottom, top, None, now["n"], 0, least, moved)


def _drifted(key: Key, means: tuple[float | None, float | None], found: Drift, level: float, n: int) -> Change:
    alarm = found.p <= level and found.size >= DISTANCE
    return Change(*_named(key), *means, found.size, None, None, found.p, n, 0, DISTANCE, alarm)


def _named(key: Key) -> tuple[str, str, str | None]:
    return key[0], key[1], key[2] or None
