"""What the base found and a later audit did not edit is named, is no pass, and is edited where the base is known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from portrait_run import write_portrait_run
from typer.testing import CliRunner

from cfx.attributes.interventions import Interventions
from cfx.errors import UserError
from cfx.portraits import ATTRIBUTES
from flows.cli import app
from tasks.check import check_base
from tasks.reading.compare import compare
from tasks.reading.gate import Policy, gate
from tasks.stages.interventions import wanted_edits
from tests.runs import run_of
from warehouse.facts.shards import find_shard, write_shard
from warehouse.lens.connect import query


def without_edits_of(root: Path, run: str, attribute: str) -> None:
    """Take an attribute's edits from a run's facts."""
    (path,) = (root / "facts" / "effects" / f"run_id={run}").glob("*.parquet")
    rows = [row for row in pq.ParquetFile(path).read().to_pylist() if row["attribute"] != attribute]
    path.unlink()
    write_shard(root, "effects", run, "00000", {name: [row[name] for row in rows] for name in rows[0]})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, "first-run", n=32, size=16)
    write_portrait_run(root, "second-run", n=32, size=16, planted=False)
    without_edits_of(root, "second-run", "glasses")
    write_portrait_run(root, "third-run", n=12, size=16, planted=False)
    return root


def test_an_attribute_reacts_where_its_edits_move_the_answer(root: Path) -> None:
    found = query(root, "from reacting").to_pylist()
    assert [(row["run_id"], row["attribute"]) for row in found] == [("first-run", "glasses")]
    changes = query(root, "select change from edit_effects where run_id = 'first-run' and attribute = 'glasses'")[
        "change"
    ].to_numpy()
    half = 1.96 * changes.std(ddof=1) / np.sqrt(len(changes))
    assert found[0]["effect"] == pytest.approx(changes.mean())
    assert (found[0]["low"], found[0]["high"]) == pytest.approx((changes.mean() - half, changes.mean() + half), abs=1e-4)


def test_a_comparison_names_what_was_not_edited(root: Path) -> None:
    (row,) = compare(root, "second-run", "first-run").unedited
    assert (row["attribute"], row["why"], row["base_verdict"]) == ("glasses", "not edited in second-run", "confirmed")
    said = " ".join(CliRunner().invoke(app, ["compare", "second-run", "first-run", "-w", str(root)]).output.split())
    assert "glasses: not edited in second-run; confirmed in first-run" in said


def test_the_gate_does_not_pass_what_it_cannot_compare(root: Path) -> None:
    held = Policy(minimum_images=1)
    found = [rule for rule in gate(root, "second-run", held, "first-run").rules if rule["rule"] == "edited rise"]
    open_ones = [(rule["subject"], rule["result"], rule["n"]) for rule in found if rule["result"] != "pass"]
    assert open_ones == [("glasses", "inconclusive", 0)]
    assert any("not edited here" in rule["reason"] and "base: first-run" in rule["reason"] for rule in found)
    tolerated = gate(root, "second-run", Policy(forbidden=("beard",), minimum_images=1)).rules
    assert "glasses" not in {rule["subject"] for rule in tolerated}


@pytest.mark.parametrize(("base", "most", "edited"), [("first-run", 2, 3), (None, 2, 2), ("first-run", 0, 0)])
def test_what_moved_the_base_is_edited_too(root: Path, base: str | None, most: int, edited: int) -> None:
    run = run_of(root, "third-run", interventions=Interventions(images=4, attributes=most), base=base)
    shard = find_shard(root, "images", "third-run", "00000")
    assert shard is not None
    wanted = [ATTRIBUTES[one.position] for one in wanted_edits(run, [shard])]
    assert len(wanted) == edited and (wanted[:1] == ["glasses"]) is (base is not None and most > 0)


def test_a_base_that_is_no_run_is_refused_before_work(root: Path) -> None:
    run = run_of(root, base="nosuch-run")
    with pytest.raises(UserError, match=r"there is no run 'nosuch-run' in .*first-run"):
        check_base(run.config)
