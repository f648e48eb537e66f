from __future__ import annotations

import pytest

from warehouse.report.charts import Axis, axis_over


def test_positions_are_shares_of_the_axis() -> None:
    axis = Axis(-0.1, 0.3)
    assert (axis.at(-0.1), axis.at(0.0), axis.at(0.3)) == ("0.00%", "25.00%", "100.00%")
    assert axis.span(-0.05, 0.05) == "25.00%"


def test_values_beyond_the_axis_lie_on_its_end() -> None:
    assert (Axis(0, 1).at(7), Axis(0, 1).at(-7)) == ("100.00%", "0.00%")


@pytest.mark.parametrize(
    ("low", "high", "ticks", "digits"),
    [
        (-0.07, 0.31, [0.0, 0.1, 0.2, 0.3], 1),
        (-0.06, 0.06, [-0.06, -0.04, -0.02, 0.0, 0.02, 0.04, 0.06], 2),
        (-1, 1, [-1.0, -0.5, 0.0, 0.5, 1.0], 1),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: list[float], digits: int) -> None:
    assert Axis(low, high).ticks == pytest.approx(ticks)
    assert Axis(low, high).digits == digits


def test_axis_holds_its_values_and_zero() -> None:
    axis = axis_over([0.2, 0.4])
    assert axis.low < 0 and axis.high > 0.4
    assert axis_over([]) == axis_over([0.0]) == Axis(-1.0, 1.0)
