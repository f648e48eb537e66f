"""Geometry of the explorer's charts, drawn by explorer_plot.html.j2 as SVG without a viewBox: text keeps its size on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from warehouse.report.charts import Axis, axis_over

MOST_BARS = 40


class Point(NamedTuple):
    """A dot with its whisker, in percent of the drawing from the left and from above; text: what it says; alarm: marked."""

    x: float
    y: float
    low: float | None
    high: float | None
    text: str
    alarm: bool = False


class LineChart(NamedTuple):
    """Points from left to right; ticks: (percent from above, value); ends: what stands below the first and the last point."""

    points: tuple[Point, ...]
    ticks: tuple[tuple[float, float], ...]
    digits: int
    ends: tuple[str, str]


class Bar(NamedTuple):
    """x and width in percent of the drawing."""

    label: str
    value: float
    x: float
    width: float


class Measured(NamedTuple):
    """A value at a place along the line, with its interval where it has one."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    alarm: bool = False


def line(values: Sequence[Measured], at: Sequence[float] | None = None, ends: tuple[str, str] | None = None) -> LineChart:
    """A line through at least one value; at: where they lie from left to right, in any unit; without it at equal distances.

    ends: what stands below the first and the last; without it their labels.
    """
    reached = [end for value in values for end in (value.value, value.low, value.high) if end is not None]
    low, high = min(reached), max(reached)
    air = 0.08 * (high - low) or abs(high) * 0.1 or 1.0
    axis = Axis(low - air, high + air)
    places = list(at) if at is not None else list(range(len(values)))
    first, span = places[0], (places[-1] - places[0]) or 1

    def above(value: float | None) -> float | None:
        return None if value is None else 100 - float(axis.at(value)[:-1])

    points = tuple(
        Point(
            2 + 96 * (place - first) / span if len(values) > 1 else 50,
            100 - float(axis.at(value.value)[:-1]),
            above(value.low),
            above(value.high),
            value.label,
            value.alarm,
        )
        for place, value in zip(places, values, strict=True)
    )
    ticks = tuple((100 - float(axis.at(tick)[:-1]), tick) for tick in axis.ticks)
    return LineChart(points, ticks, axis.digits, ends or (values[0].label, values[-1].label))


def bars(values: Sequence[tuple[str, float]]) -> list[Bar]:
    """The first MOST_BARS values as bars from zero."""
    shown = values[:MOST_BARS]
    axis = axis_over([value for _, value in shown])
    zero = float(axis.at(0)[:-1])
    found = ((label, value, float(axis.at(value)[:-1])) for label, value in shown)
    return [Bar(label, value, min(zero, end), abs(end - zero)) for label, value, end in found]
