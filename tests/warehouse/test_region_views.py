"""Regions of the images: what is concluded of each, from explanations whose moves are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import CLASSES, Columns, attribute_rows, explanation_rows, image_ids, png, run_rows, write_run
from portrait_run import write_portrait_run

from warehouse.facts.shards import write_shard
from warehouse.lens.catalog import NAMES, VIEWS
from warehouse.lens.connect import query
from warehouse.lens.needed_views import needed_facts
from warehouse.report.render import report_html

N, MARGIN = 64, 0.1
ATTRIBUTES = ("smile", "glasses", "hat")
KNOWN = {  # region -> how far the answer moves, how many flip, how many the judge sees flipped, how far glasses change
    "eyes": (0.4, 40, 0, 0.3),
    "mouth": (0.6, 60, 58, 0.0),
    "corner": (0.3, 30, 1, 0.0),
    "background": (0.02, 2, 0, 0.0),
}


def write_regions(root: Path, known: dict[str, tuple[float, int, int, float]] = KNOWN, n: int = N, run: str = "r1") -> None:
    """Half of the images in each direction; smile changes in the mouth alone."""
    ids, chance = image_ids(n), np.random.default_rng(3)
    towards = np.arange(n) % 2
    for name, (move, flips, judged, glasses) in known.items():
        for arm in ("guided", "null"):
            guided = arm == "guided"
            after = 0.1 + guided * (move + chance.uniform(-0.05, 0.05, n)) + chance.uniform(-0.02, 0.02, n)
            said: dict[str, Any] = {
                "source": np.array(CLASSES)[1 - towards], "target": np.array(CLASSES)[towards], "p_target_cf": after,
                "flipped": np.arange(n) < flips * guided, "judge_flipped": np.arange(n) < judged * guided,
                "region": [name] * n, "region_fraction": [0.25] * n, "region_png": [png(255)] * n,
            }  # fmt: skip
            before = {attribute: np.full(n, 0.5) for attribute in ATTRIBUTES}
            moves = {"smile": 0.4 * (name == "mouth"), "glasses": glasses, "hat": 0.0}
            seen = {
                attribute: 0.5 + guided * (2 * towards - 1) * size * chance.uniform(0.5, 1.5, n) + chance.uniform(-0.01, 0.01, n)
                for attribute, size in moves.items()
            }
            wide = {key: values for key, values in attribute_rows(ids, before, seen, arm).items() if key[1] == "_"}
            rows: Columns = explanation_rows(ids, arm, **said) | wide
            write_shard(root, "region_explanations", run, f"{name}-{arm}", rows)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("regions")
    write_run(root, "r1", {"smile": 0.2, "glasses": 0.1, "hat": 0.0}, N)
    write_shard(root, "runs", "r1", "finished-2", run_rows(margin=MARGIN))
    write_regions(root)
    return root


def regions(root: Path, run: str = "r1") -> dict[str, dict[str, Any]]:
    sql = "from regions where run_id = $run"
    return {row["region"]: row for row in query(root, sql, {"run": run}).to_pylist()}


def test_a_verdict_on_each_region_says_what_it_rests_on(root: Path) -> None:
    found = regions(root)
    assert {name: row["verdict"] for name, row in found.items()} == {
        "eyes": "relies", "mouth": "relies", "corner": "suspected", "background": "unmoved",
    }  # fmt: skip
    assert {name: row["why"] for name, row in found.items()} == {
        "eyes": "what changes there has a name; the judge does not follow",
        "mouth": "what changes there has a name, and the judge follows",
        "corner": "nothing that has a name changes there, and the judge does not follow: it may be this classifier alone that is "
        "fooled",
        "background": "what is drawn there moves the answer by less than 10 points; what this prior does not draw was not tried",
    }
    assert {name: row["attribute"] for name, row in found.items() if row["attribute_status"] == "above null"} == {
        "eyes": "glasses", "mouth": "smile",
    }  # fmt: skip
    assert [name for name, row in found.items() if row["is_target"] and row["attribute_status"] == "above null"] == ["mouth"]
    for name, (move, flips, judged, _) in KNOWN.items():
        row = found[name]
        assert (row["flip_rate"], row["judge_flip_rate"], row["null_flip_rate"]) == (flips / N, judged / N, 0.0)
        assert row["shift_low"] < row["shift"] < row["shift_high"] and row["shift"] == pytest.approx(move, abs=0.02)
        assert (row["n"], row["images"], row["l1"]) == (N, N, pytest.approx(0.1 / 0.25))


def test_shifts_are_means_over_images_with_intervals_for_all_at_once(root: Path) -> None:
    rows = query(root, "from region_shifts where run_id = 'r1'").to_pylist()
    assert len(rows) == len(KNOWN) * (1 + len(ATTRIBUTES))
    (glasses,) = [row for row in rows if row["region"] == "eyes" and row["attribute"] == "glasses"]
    each = query(
        root,
        """
        select sum(if(arm = 'guided', 1, -1) * if(target = 'smile', 1, -1) * d_glasses) as change
        from region_explanations where region = 'eyes' group by image_id
        """,
    )["change"].to_numpy()
    assert glasses["shift"] == pytest.approx(each.mean(), abs=1e-6)
    alone = 1.96 * each.std(ddof=1) / np.sqrt(N)  # of one shift by itself: of sixteen at once about three standard errors
    assert 1.2 * alone < glasses["high"] - glasses["shift"] < 2 * alone


def test_where_few_images_flip_an_attribute_is_not_enough_rather_than_clear(root: Path) -> None:
    sql = "select region, status from region_shifts where run_id = 'r1' and attribute = 'hat'"
    assert dict(query(root, sql).select(["region", "status"]).to_pandas().itertuples(index=False)) == {
        "eyes": "clear", "mouth": "clear", "corner": "not enough", "background": "not enough",
    }  # fmt: skip


def test_few_images_clear_nothing(tmp_path: Path) -> None:
    write_run(tmp_path, "r1", {"smile": 0.2, "glasses": 0.1, "hat": 0.0}, 24)
    write_shard(tmp_path, "runs", "r1", "finished-2", run_rows(margin=MARGIN))
    write_regions(tmp_path, {"background": (0.02, 1, 0, 0.0)}, 24)
    row = regions(tmp_path)["background"]
    assert (row["verdict"], row["why"]) == ("not enough", "24 images; about 30 are needed to say that it does not matter")
    write_regions(tmp_path, {"tiny": (0.02, 1, 0, 0.0)}, 6)
    row = regions(tmp_path)["tiny"]
    assert (row["verdict"], row["shift"], row["attribute"]) == ("not enough", None, None)


def test_no_other_view_reads_explanations_of_regions() -> None:
    """So that no number of whole images has some of them among its explanations."""
    reading = [name for name in (*VIEWS, *NAMES) if "region_explanations" in needed_facts(f"from {name}", name in NAMES)]
    assert reading == ["damaged", "region_shifts", "regions"]  # the first reads every fact


def test_an_audit_without_an_oracle_has_regions_too(tmp_path: Path) -> None:
    write_shard(tmp_path, "runs", "r1", "finished", run_rows(margin=MARGIN, target_attribute=None))
    ids = image_ids(N)
    for arm, after in (("guided", 0.8), ("null", 0.1)):
        more = {"region": ["box"] * N, "region_fraction": [0.25] * N, "region_png": [png(255)] * N}
        jitter = np.random.default_rng(0).uniform(-0.01, 0.01, N)
        said: dict[str, Any] = {"p_target_cf": after + jitter, "judge_flipped": [None] * N}
        write_shard(tmp_path, "region_explanations", "r1", arm, explanation_rows(ids, arm, **said) | more)
    row = regions(tmp_path)["box"]
    assert (row["verdict"], row["why"], row["attribute"]) == ("suspected", "nothing that has a name changes there", None)


@pytest.mark.long
def test_the_report_shows_each_region(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "r1", n=N, size=8)
    ids = query(tmp_path, "select image_id from images order by path")["image_id"].to_pylist()
    for name, after in (("eyes", 0.8), ("sky & <sea>", 0.1)):
        for arm in ("guided", "null"):
            moved = after if arm == "guided" else 0.1
            said: dict[str, Any] = {
                "source": ["neutral"] * N, "target": ["smiling"] * N, "flipped": [moved > 0.5] * N, "region": [name] * N,
                "p_target_cf": moved + np.random.default_rng(0).uniform(-0.01, 0.01, N),
                "region_fraction": [0.25] * N, "region_png": [png(255)] * N,
            }  # fmt: skip
            seen = {"glasses": np.full(N, 0.1 + 0.5 * (arm == "guided" and name == "eyes"))}
            wide = {k: v for k, v in attribute_rows(ids, {"glasses": np.full(N, 0.1)}, seen, arm).items() if k[1] == "_"}
            write_shard(tmp_path, "region_explanations", "r1", f"{name[:3]}-{arm}", explanation_rows(ids, arm, **said) | wide)
    page = report_html(tmp_path, "r1")
    assert 'id="regions"' in page and "sky &amp; &lt;sea&gt;" in page
    assert "relies on it" in page and "not moved from here" in page
