"""The view outside: closed forms, and its rules one by one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import CLASSES, image_ids, residual_rows, run_rows
from scipy.stats import t

from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query

N = 40


def outside(root: Path, moves: Any, **columns: Any) -> dict[str, Any]:
    write_shard(root, "runs", "r1", "finished", run_rows())
    write_shard(root, "residuals", "r1", "all", residual_rows(image_ids(len(moves)), moves, **columns))
    [row] = query(root, "from outside").to_pylist()
    return row


def test_effect_and_interval_are_those_of_a_mean(tmp_path: Path) -> None:
    moves = np.random.default_rng(0).normal(0.2, 0.1, N)
    row = outside(tmp_path, moves)
    half = t.ppf(0.975, N - 1) * moves.std(ddof=1) / np.sqrt(N)
    assert row["effect"] == pytest.approx(moves.mean(), abs=1e-6)
    assert (row["high"] - row["low"]) / 2 == pytest.approx(half, rel=0.06)
    assert (row["finding"], row["why"]) == ("something outside your attributes", "guidance moves the answer there")
    assert (row["n"], row["unnamed"], row["drift"], row["place"]) == (N, 2, 0.0, "top left")
    assert row["changes"][0] == pytest.approx(0.4) and row["changes"][63] == pytest.approx(0.1)
    assert row["changes"][1:63] == [None] * 62


def test_towards_the_first_class_its_probability_counts(tmp_path: Path) -> None:
    assert outside(tmp_path, [-0.3] * N, target=[CLASSES[0]] * N)["effect"] == pytest.approx(0.3)


def test_the_nulls_own_change_is_taken_off(tmp_path: Path) -> None:
    row = outside(tmp_path, [0.3] * N, probabilities_null=[[0.48, 0.52]] * N)
    assert row["effect"] == pytest.approx(0.28) and row["drift"] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("moves", "columns", "finding", "why"),
    [
        ([0.001, -0.001] * 20, {}, "nothing outside", None),
        ([0.001, -0.001] * 5, {}, "inconclusive", "too few images"),
        ([0.2] * 4, {}, "inconclusive", "too few images"),
        ([0.9, -0.8] * 20, {}, "inconclusive", "too few images"),
        (
            [0.2] * N,
            {"probabilities_null": [[0.4, 0.6]] * N},
            "something outside your attributes",
            "guidance moves the answer there, and",
        ),
        ([0.1] * N, {"probabilities_null": [[0.4, 0.6]] * N}, "something outside your attributes", "redrawing alone"),
        ([0.0] * N, {"probabilities_before": [[0.5, 0.5]] * (N - 5) + [[0.1, 0.9]] * 5}, "inconclusive", "too few images"),
        ([0.0] * N, {"named": [list(range(64))] * N}, "inconclusive", "the oracle looks everywhere"),
        ([0.03] * N, {}, "nothing outside", None),
    ],
)
def test_findings(tmp_path: Path, moves: list[float], columns: dict[str, Any], finding: str, why: str | None) -> None:
    row = outside(tmp_path, moves, **columns)
    assert row["finding"] == finding
    assert row["why"] is None if why is None else row["why"].startswith(why)


@pytest.mark.parametrize(("cell", "place"), [(7, "top right"), (27, "centre"), (56, "bottom left"), (39, "middle right")])
def test_places_in_words(tmp_path: Path, cell: int, place: str) -> None:
    change = [0.5 if i == cell else 0.0 for i in range(64)]
    assert outside(tmp_path, [0.2] * N, named=[[1]] * N, change_guided=[change] * N)["place"] == place
