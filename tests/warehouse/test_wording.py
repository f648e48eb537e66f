from __future__ import annotations

from datetime import UTC, datetime

import pytest

from warehouse.report import formatting as wording


@pytest.mark.parametrize(("value", "text"), [(0.1314, "+0.131"), (-0.0421, "−0.042"), (-0.0001, "0.000"), (None, "–")])
def test_signed(value: float | None, text: str) -> None:
    assert wording.signed(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.015072, "0.0151"), (97.31, "97.3"), (36.0, "36"), (12345.6, "12,346"), (0.0000123, "0.0000123"), (0.0, "0")],
)
def test_number_has_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.000"), (0.0004, "< 0.001"), (0.5, "0.500"), (0.9996, "> 0.999"), (1.0, "1.000")]
)
def test_probability_is_never_rounded_to_certainty(value: float, text: str) -> None:
    assert wording.probability(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.48, "0.48 s"), (97.2, "97 s"), (720.0, "12 min"), (12240.0, "3.4 h")])
def test_duration(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


def test_lists_and_moments_read_as_english() -> None:
    assert [wording.listed(list(names)) for names in ("", "a", "ab", "abc")] == ["nothing", "a", "a and b", "a, b and c"]
    assert wording.moment(datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)) == "2025-03-04 05:06 UTC"


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0.283, 0.461, "+28.3 to +46.1"), (-0.031, 0.0, "−3.1 to 0.0"), (-0.0002, 0.0004, "less than 0.1 points")],
)
def test_an_interval_in_points_that_rounds_to_nothing_says_so(low: float, high: float, text: str) -> None:
    assert wording.points_between(low, high) == text


@pytest.mark.parametrize(
    ("low", "high", "text"), [(0.283, 0.461, "28–46"), (-0.031, 0.12, "−3 to +12"), (-0.004, 0.003, "less than 1")]
)
def test_an_interval_for_a_glance_has_whole_points(low: float, high: float, text: str) -> None:
    assert wording.whole_between(low, high) == text


def test_sizes_in_points_have_no_sign_and_never_are_a_bare_zero() -> None:
    assert [wording.size_in_points(value) for value in (0.372, -0.003, 0.0004)] == ["37.2", "0.3", "less than 0.1"]
    assert [wording.size_in_points(value, 0) for value in (0.372, -0.003)] == ["37", "less than 1"]


def test_a_reason_of_the_gate_says_less_than_where_all_rounds_to_zero() -> None:
    said = "hat effect 0.0 points (95% interval 0.0 to 0.0), limit 15; edited alone it shifts the score by −0.2 points"
    assert wording.reason(said) == "hat effect less than 0.1 points, limit 15; edited alone it shifts the score by −0.2 points"
    assert wording.reason("glasses effect 10.0 points (95% interval +1.0 to +19.0)").startswith(
        "glasses effect 10.0 points (95% c"
    )
