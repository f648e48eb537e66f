"""The charts of a notebook show what SQL says: effects, the map, a trend, what an audit cost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from matplotlib import pyplot
from portrait_run import write_portrait_run

import cfx
from cfx.errors import UserError
from warehouse.facts.shards import write_shard
from warehouse.lens.notebook import Warehouse

SPENT = {"explanations": 90.0, "predictions": 2.5, "nosuch_stage": 1.0}  # seconds
BEGAN = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    root = tmp_path_factory.mktemp("warehouse")
    for run in ("one", "two"):
        write_portrait_run(root, run, n=24, size=16, places={9: 0.5}, properties={"warmth": 0.3})
    rows = [
        {"stage": stage, "shard": "00000", "began": BEGAN, "ended": BEGAN + timedelta(seconds=seconds), "host": "h", "process": 1}
        for stage, seconds in SPENT.items()
    ]
    write_shard(root, "stages", "one", "a", {name: [row[name] for row in rows] for name in rows[0]})
    return cfx.open(root)


@pytest.fixture(autouse=True)
def _no_figure_stays() -> Iterator[None]:
    yield
    pyplot.close("all")


def test_effects_are_the_interventions_in_points_with_their_intervals(kept: Warehouse) -> None:
    wanted = kept.sql("from findings where run_id = 'one' and intervention is not null order by rank limit 20")
    ax = kept.plot_effects("one")
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == pytest.approx((100 * wanted["intervention"]).tolist())
    bars = [line.get_xdata() for line in ax.lines if line.get_linewidth() == 2]
    assert np.array(bars) == pytest.approx(100 * wanted[["low", "high"]].dropna().to_numpy())
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == [f"{row.name.replace('_', ' ')} ({row.verdict})" for row in wanted.itertuples(index=False)]
    assert "too small to matter (±5 points)" in ax.get_title(loc="left")


def test_the_map_is_that_of_the_report_over_the_images(kept: Warehouse) -> None:
    wanted = kept.sql("from place_cells where run_id = 'one' order by place")
    ax = kept.plot_map("one")
    mean, places = ax.images
    assert np.asarray(places.get_array()).ravel()[wanted["place"]] == pytest.approx(100 * wanted["effect"].to_numpy())
    assert np.asarray(mean.get_array()).shape == (16, 16, 3)
    outlined = wanted[wanted["decides"] & wanted["unnamed"]]["place"].tolist()
    assert outlined == [9] and [line.get_xdata()[0] for line in ax.lines] == [place % 8 for place in outlined]
    with pytest.raises(UserError, match="no map of 'frowning'; this run has smiling"):
        kept.plot_map("one", of="frowning")


def test_a_trend_has_a_point_a_run_and_its_interval(kept: Warehouse) -> None:
    wanted = kept.sql("from trend where audit = 'planted' and name = 'glasses' order by started")
    ax = kept.plot_trend("planted", "glasses")
    (line,) = ax.lines
    assert len(wanted) == 2 and line.get_ydata().tolist() == pytest.approx(wanted["value"].tolist())
    edge = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert edge.min() == pytest.approx(wanted["low"].min()) and edge.max() == pytest.approx(wanted["high"].max())
    with pytest.raises(UserError, match="no finished audit called 'nightly'; there is planted"):
        kept.plot_trend("nightly")


def test_cost_is_the_time_of_each_stage_in_words(kept: Warehouse) -> None:
    ax = kept.plot_cost("one")
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(sorted(SPENT.values(), reverse=True))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["draw counterfactuals", "ask the classifier", "nosuch stage"]
    assert ax.texts[0].get_text().startswith("90 s, ") and kept.plot_cost("two").get_title() == "nothing was timed"


def test_a_chart_is_drawn_where_it_is_wanted_and_a_run_must_be_there(kept: Warehouse) -> None:
    _, (left, right) = pyplot.subplots(1, 2)
    assert kept.plot_effects("one", ax=left) is left and kept.plot_map("one", ax=right) is right
    with pytest.raises(UserError, match="there is no run 'three' in"):
        kept.plot_cost("three")
