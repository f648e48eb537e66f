"""The trend of an audit: how far chance can move a mean, what is an alarm, and which nights are compared."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import facts
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from typer.testing import CliRunner

from cfx.errors import UserError
from flows.cli import app
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query
from warehouse.trend.alarms import alarms, trend
from warehouse.trend.changes import FALSE_ALARMS, NIGHTS
from warehouse.trend.drift import of_classes
from warehouse.trend.tails import Exchange, critical

Floats = NDArray[np.float64]
NONE = np.zeros(0)


def permuted(exchange: Exchange) -> Floats:
    """The change under every exchange that changes nothing if nothing changed: signs of differences, new and earlier images."""
    signs = np.array(list(itertools.product((-1, 1), repeat=len(exchange.differences))))
    pooled, m = np.concatenate([exchange.new, exchange.earlier]), len(exchange.new)
    chosen = np.array([[i in some for i in range(len(pooled))] for some in itertools.combinations(range(len(pooled)), m)])
    of_new = np.zeros(1)
    if m:
        of_new = m * ((chosen @ pooled) / m - (~chosen @ pooled) / (len(pooled) - m))
    return np.add.outer(signs @ exchange.differences, of_new).ravel() / exchange.n


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("c", "m", "r"), [(12, 0, 0), (0, 5, 9), (6, 4, 6)])
@pytest.mark.parametrize("level", [0.05, 0.3])
def test_a_change_beyond_the_critical_one_is_as_rare_as_promised_whatever_the_numbers(
    seed: int, c: int, m: int, r: int, level: float
) -> None:
    rng = np.random.default_rng(seed)
    exchange = Exchange(rng.exponential(1, c) - 0.5, rng.random(m) ** 8, rng.random(r) ** 8)
    fall, rise = critical(exchange, level)
    every = permuted(exchange)
    beyond = np.mean(every > rise * (1 + 1e-9)), np.mean(every < fall * (1 + 1e-9))
    assert max(beyond) <= level / 2
    assert every.min() - 1e-9 <= fall < 0 < rise <= every.max() + 1e-9
    if not m and level == 0.05:  # of signs alone the bound is close: a chance of level / 2 lies less than a third under it
        assert rise < 1.35 * np.quantile(every, 1 - level / 2)


def test_of_equal_steps_the_critical_change_is_that_of_a_binomial() -> None:
    n, step, level = 60, 0.1, 1e-4
    _, rise = critical(Exchange(np.tile([step, -step], n // 2), NONE, NONE), level)
    x = rise / step
    entropy = ((1 + x) * np.log1p(x) + (1 - x) * np.log1p(-x)) / 2  # Chernoff: exp(-n KL(p' || 1/2))
    assert n * entropy == pytest.approx(np.log(2 / level), rel=1e-6)


def test_no_difference_is_no_change_and_its_interval_a_point() -> None:
    exchange = Exchange(np.zeros(40), NONE, NONE)
    assert (exchange.change, *critical(exchange, 1e-5)) == (0, 0, 0)


def test_the_change_takes_common_images_by_themselves_and_new_ones_against_earlier_ones() -> None:
    exchange = Exchange(np.array([0.1, 0.3]), np.array([1.0, 1.0, 0.0]), np.array([0.5, 0.0]))
    assert exchange.change == pytest.approx((0.4 + 3 * (2 / 3 - 1 / 4)) / 5)


def test_counts_of_a_rare_class_have_the_p_value_of_tables_drawn_and_not_the_asymptotic_one() -> None:
    """3 against 0 of a class: in the pool's 1,060 images the chance of 3 in the 60 is 60 * 59 * 58 / (1060 * 1059 * 1058)."""
    found = of_classes(["rare"] * 3 + ["common"] * 57, ["common"] * 1000, 0.0005)
    exact = 60 * 59 * 58 / (1060 * 1059 * 1058)
    assert exact == pytest.approx(1.7e-4, rel=0.02)
    assert 0.5 * exact < found.p < 2 * exact  # 7e-13 asymptotically


def write_night(root: Path, night: int, ids: list[str], right: NDArray[np.bool_], effects: Floats, **columns: Any) -> str:
    """A finished run of the audit `nightly`: labels all of the first class; effects of one attribute on the first images."""
    run, began = f"nightly-{night}", datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=night)
    settings = {"name": "nightly", "started": began, "finished": began, "margin": 0.1} | columns
    write_shard(root, "runs", run, "finished", facts.run_rows(**settings))
    write_shard(root, "images", run, "all", facts.image_rows(ids, label=[facts.CLASSES[0]] * len(ids)))
    said = [facts.CLASSES[0] if ok else facts.CLASSES[1] for ok in right]
    write_shard(root, "predictions", run, "all", facts.prediction_rows(ids, said))
    write_shard(root, "effects", run, "all", facts.effect_rows(ids[: len(effects)], "glasses", effects))
    return run


def bits(n: int, wrong: int) -> NDArray[np.bool_]:
    return np.arange(n) >= wrong


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five nights of the same 64 images: on the last two the classifier has half of what it was right on wrong, and leans on
    glasses; before, and beside, another audit, one that is not finished, and one of other classes."""
    root, ids = tmp_path_factory.mktemp("fixed"), facts.image_ids(64)
    rng = np.random.default_rng(0)
    small, large = rng.normal(0.1, 0.05, 40), rng.normal(0.4, 0.1, 40)
    for night in range(5):
        write_night(root, night, ids, bits(64, 32 if night >= 3 else 4), large if night >= 3 else small)
    began = datetime(2025, 1, 2, tzinfo=UTC)
    others: dict[str, dict[str, Any]] = {
        "other": {"name": "other"},
        "unfinished": {"name": "nightly", "status": "started", "finished": None},
        "three": {"name": "nightly", "classes": ["a", "b", "c"]},
    }
    for name, columns in others.items():
        write_shard(root, "runs", name, "event", facts.run_rows(started=began, **columns))
    return root


def test_nothing_changed_is_no_alarm_and_a_change_is_one_on_its_first_night(fixed: Path) -> None:
    assert trend(fixed, "nightly-0").references == ()
    quiet = trend(fixed, "nightly-2")
    assert quiet.references == ("nightly-0", "nightly-1") and quiet.alarms == ()
    assert {(one.change, one.low, one.high) for one in quiet.changes if one.p is None} == {(0, 0, 0)}
    assert {alarm.change.name: (alarm.nights, alarm.since) for alarm in alarms(fixed, "nightly-3")} == {
        "accuracy": (1, "nightly-3"), "glasses": (1, "nightly-3")
    }  # fmt: skip


def test_an_alarm_that_lasts_says_since_when_and_the_interval_holds_what_changed(fixed: Path) -> None:
    found = {alarm.change.name: alarm for alarm in alarms(fixed, "nightly-4")}
    assert {name: (alarm.nights, alarm.since) for name, alarm in found.items()} == dict.fromkeys(
        ("accuracy", "glasses"), (2, "nightly-3")
    )
    glasses = found["glasses"].change
    assert glasses.low is not None and glasses.high is not None
    assert glasses.target == "smile" and 0 < glasses.low < glasses.change < glasses.high
    assert str(found["glasses"]).startswith("effect of glasses on smile: ")
    assert str(found["glasses"]).endswith("; for 2 nights, since nightly-3")
    # 3 of 4 earlier nights are as before, so lots give most images, but not all, an unchanged earlier value.
    assert 0.15 < glasses.change < 0.3


def test_the_newest_run_of_an_audit_stands_for_it_and_one_run_may_be_the_reference(fixed: Path) -> None:
    assert trend(fixed, "nightly", last=1).references == ("nightly-3",)
    assert trend(fixed, "nightly", last=1).alarms == ()  # the night before is as tonight
    against = trend(fixed, "nightly", against="nightly-0")
    assert against.references == ("nightly-0",)
    assert {alarm.change.name: alarm.nights for alarm in against.alarms} == {"accuracy": 2, "glasses": 2}


@pytest.mark.parametrize(
    ("subject", "against", "words"),
    [
        ("nosuch", None, "no audit and no finished run 'nosuch' in this warehouse; its audits: nightly, other"),
        ("unfinished", None, "no finished run 'unfinished'"),
        ("nightly", "nightly-4", "is the run itself"),
        ("nightly", "three", "are not those of tonight"),
        ("nightly", "nightly", "'nightly' is no finished run"),
    ],
)
def test_what_cannot_be_compared_is_refused(fixed: Path, subject: str, against: str | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        trend(fixed, subject, against=against)


def test_levels_share_the_budget_of_a_month(fixed: Path) -> None:
    found = trend(fixed, "nightly-4")
    assert found.level == pytest.approx(FALSE_ALARMS / NIGHTS / 3)  # accuracy, confidence, glasses


def test_the_view_has_a_row_a_night_and_quantity(fixed: Path) -> None:
    sql = "select run_id, value, low, high, n from trend where audit = 'nightly' and kind = 'accuracy' order by started"
    rows = query(fixed, sql).to_pylist()
    assert [row["run_id"] for row in rows] == [f"nightly-{night}" for night in range(5)]
    assert [row["value"] for row in rows] == [60 / 64] * 3 + [32 / 64] * 2
    half = 1.96 * np.sqrt(60 / 64 * 4 / 64 * 64 / 63 / 64)
    assert (rows[0]["low"], rows[0]["high"]) == pytest.approx((60 / 64 - half, 60 / 64 + half), abs=1e-4)


def test_the_command_prints_the_alarms_and_ends_with_them(fixed: Path) -> None:
    run = CliRunner().invoke
    loud = run(app, ["trend", "nightly-3", "-w", str(fixed)])
    assert loud.exit_code == 1 and "alarm effect of glasses on smile: 0.1" in loud.output
    assert (
        run(app, ["trend", "nightly-2", "-w", str(fixed)]).exit_code,
        run(app, ["trend", "x", "-w", str(fixed)]).exit_code,
    ) == (0, 2)
    first = run(app, ["trend", "nightly-0", "-w", str(fixed)])
    assert first.exit_code == 3 and "is the first night of nightly" in first.output
    found = json.loads(run(app, ["trend", "nightly", "-w", str(fixed), "--json"]).stdout)
    assert [(alarm["name"], alarm["nights"], alarm["class"]) for alarm in found["alarms"]] == [
        ("accuracy", 2, None), ("glasses", 2, "smile")
    ]  # fmt: skip
    series = next(one for one in found["series"] if one["kind"] == "accuracy")
    assert [night["value"] for night in series["nights"]] == [60 / 64] * 3 + [32 / 64] * 2


def test_new_images_of_another_kind_are_an_alarm_and_images_in_common_are_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for night in range(4):
        ids = facts.image_ids(40) + facts.image_ids(60, seed=10 + night)
        run = write_night(tmp_path, night, ids, bits(100, 5), NONE)
        brightness, contrast = rng.normal(0.5, 0.1, 100), rng.normal(0.2, 0.1, 100)
        brightness[40:] -= 0.2 * (night == 3)
        write_shard(tmp_path, "properties", run, "all", {"image_id": ids, "m_brightness": brightness, "m_contrast": contrast})
    assert alarms(tmp_path, "nightly-2") == []
    (alarm,) = alarms(tmp_path, "nightly-3")
    assert (alarm.change.kind, alarm.change.name, alarm.change.n) == ("measured", "brightness", 60)
    assert str(alarm).startswith("brightness of the images: ")


def test_other_answers_to_new_images_are_an_alarm(tmp_path: Path) -> None:
    for night in range(3):
        ids = facts.image_ids(80, seed=night)
        write_night(tmp_path, night, ids, bits(80, 60 if night == 2 else 8), NONE)
    assert {alarm.change.kind for alarm in alarms(tmp_path, "nightly-2")} == {"accuracy", "predicted"}


def test_a_share_that_falls_is_an_alarm_by_the_difference_of_two_intervals(tmp_path: Path) -> None:
    """Intervals from -.05 to +.03 around .95, then around .6; one odd night among those before is no alarm."""
    for night, share in enumerate((0.95, 0.95, 0.6, 0.95)):
        run = write_night(tmp_path, night, facts.image_ids(64), bits(64, 4), NONE)
        write_shard(tmp_path, "explained", run, "all", facts.share_rows(share, share))
    (alarm,) = alarms(tmp_path, "nightly-2")
    change = alarm.change
    assert (change.kind, change.subject) == ("explained", "explained share of smile")
    assert change.change == pytest.approx(-0.35) and change.high is not None
    level = FALSE_ALARMS / NIGHTS / 3
    z = norm.isf(level / 2) / norm.isf(0.025)
    assert change.high == pytest.approx(-0.35 + z * np.hypot(0.03, 0.05))  # tonight's upper end, the earlier nights' lower
    assert alarms(tmp_path, "nightly-3") == []


def test_properties_and_places_are_watched_once_the_classifier_relies_on_them(tmp_path: Path) -> None:
    ids = facts.image_ids(64)
    for night, relied in enumerate((False, True, True)):
        run = write_night(tmp_path, night, ids, bits(64, 4), NONE)
        n, size = len(ids), 0.3 if relied else 0.0
        rows = {
            "image_id": ids * 2, "class": [facts.CLASSES[1]] * 2 * n, "probe": ["compression"] * 2 * n,
            "direction": ["down"] * n + ["up"] * n, "strength": [0.5] * 2 * n, "counted": [True] * 2 * n,
            "p_before": [0.5] * 2 * n, "p_after": [0.5] * n + [0.5 + size] * n,
        }  # fmt: skip
        write_shard(tmp_path, "probes", run, "all", rows)
        write_shard(tmp_path, "property_claims", run, "all", facts.property_rows({"compression": size}))
        write_shard(
            tmp_path, "place_claims", run, "all", facts.place_rows({0: 0.6 if relied else 0.0}) | {"beyond_label": [True] * n}
        )
    assert {alarm.change.subject for alarm in alarms(tmp_path, "nightly-1")} == {
        "effect of compression on smile", "effect of the top left on smile"
    }  # fmt: skip
