"""Geometry of the report's static charts; the template draws them as inline SVG.

Positions are percentages of the drawing's width and the drawings have no viewBox, so that text and dots keep their size
on a phone and on a poster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A horizontal scale shared by all rows of a chart, in the unit of the data."""

    low: float
    high: float

    def at(self, value: float) -> str:
        """Where a value lies, as an SVG length; values beyond the axis lie on its end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return f"{100 * share:.2f}%"

    def span(self, low: float, high: float) -> str:
        """The length from `low` to `high`, as an SVG length."""
        return f"{float(self.at(high)[:-1]) - float(self.at(low)[:-1]):.2f}%"

    @property
    def step(self) -> float:
        """The roundest of 1, 2, 5 times a power of ten that gives at most six ticks."""
        rough = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough * (1 - 1e-9))

    @property
    def digits(self) -> int:
        """Decimals that tell the ticks apart."""
        return max(0, -math.floor(math.log10(self.step)))

    @property
    def ticks(self) -> list[float]:
        first, last = math.ceil(self.low / self.step), math.floor(self.high / self.step)
        return [round(i * self.step, 12) for i in range(first, last + 1)]


def axis_over(values: Iterable[float]) -> Axis:
    """An axis that holds the values and zero, with some air at both ends; without values it runs from -1 to 1."""
    known = [0.0, *values]
    low, high = min(known), max(known)
    if low == high:
        return Axis(low - 1.0, high + 1.0)
    air = 0.06 * (high - low)
    return Axis(low - air, high + air)
