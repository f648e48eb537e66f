"""An audit's earlier runs on the report: lines of its numbers, an alarm ringed, and what is gone is not asked again."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import facts
import numpy as np
import pytest
from archive_changes import read, recompute, zipped

from warehouse.evidence.export import export
from warehouse.evidence.verify import verify
from warehouse.evidence.verify_archive import verify_archive
from warehouse.facts.shards import write_shard
from warehouse.report.nights import Nights, ask_nights, nights_of
from warehouse.report.queries import Evidence
from warehouse.report.render import write_report

IDS = facts.image_ids(64)
RIGHT = [60, 61, 60, 32]  # of 64 images, night by night: the last is an alarm
CLAIM = {"kind": "attribute", "name": "glasses", "class": "smile", "intervention": 0.1, "verdict": "confirmed"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("nights"), np.random.default_rng(0)
    for night, right in enumerate(RIGHT):
        run, began = f"night-{night}", datetime(2025, 1, 1 + night, 2, 30, tzinfo=UTC)
        write_shard(
            root, "runs", run, "finished", facts.run_rows(name="nightly", started=began, finished=began + timedelta(hours=1))
        )
        write_shard(root, "images", run, "all", facts.image_rows(IDS, label=["smile"] * 64))
        said = ["smile" if i < right else "no_smile" for i in range(64)]
        write_shard(root, "predictions", run, "all", facts.prediction_rows(IDS, said))
        write_shard(root, "effects", run, "all", facts.effect_rows(IDS[:30], "glasses", rng.normal(0.1, 0.05, 30)))
    return root


def asked(root: Path, run: str) -> Evidence | None:
    return ask_nights(root, run, [CLAIM], [{"verdict": "fail"}])


@pytest.fixture(scope="module")
def drawn(root: Path) -> Nights:
    evidence = asked(root, "night-3")
    assert evidence is not None
    nights = nights_of(evidence.rows)
    assert nights is not None
    return nights


def test_the_first_run_of_an_audit_has_no_line(root: Path) -> None:
    assert asked(root, "night-0") is None and nights_of(None) is None


def test_each_run_is_a_point_and_the_alarm_is_on_the_last(drawn: Nights) -> None:
    accuracy, glasses = drawn.lines
    assert (accuracy.title, glasses.title) == ("Accuracy", "“glasses” edited, points of “smile”")
    assert [point.text for point in accuracy.points] == ["93.8%", "95.3%", "93.8%", "50.0%"]
    assert [point.x for point in accuracy.points] == ["12.50%", "37.50%", "62.50%", "87.50%"]
    assert [point.alarm for point in accuracy.points] == [False, False, False, True] and accuracy.alarm and not glasses.alarm
    heights = [float(point.y[:-1]) for point in accuracy.points]  # from the top
    assert heights[1] < heights[0] == heights[2] < heights[3]
    assert all(
        float(point.high[:-1]) <= height <= float(point.low[:-1]) for point, height in zip(accuracy.points, heights, strict=True)
    )
    assert [gate for _, _, gate in drawn.runs] == [None, None, None, "fail"]


@pytest.mark.long
def test_an_earlier_run_that_is_gone_is_not_asked_again_and_one_that_is_there_is(root: Path, tmp_path: Path) -> None:
    kept = Path(shutil.copytree(root, tmp_path / "kept"))
    page = write_report(kept, "night-3")
    assert "Over 4 runs of this audit" in page.read_text() and ">50.0%</strong>" in page.read_text()
    for folder in (kept / "facts").glob("*/run_id=night-0"):
        shutil.rmtree(folder)
    found = verify(kept, "night-3")
    assert found.sound and found.absent == 1
    packed = export(kept, "night-3", tmp_path / "archive.zip")
    found = verify_archive(packed)
    assert found.sound and found.absent == 2  # night-2 is what night-3 is compared with
    files = read(packed)
    files["reports/night-3.html"] = files["reports/night-3.html"].replace(b"0.953125,", b"0.953126,", 1)
    recompute(files)
    packed.write_bytes(zipped(files))
    assert "reports/night-3.html" in verify_archive(packed).bad_files
    predictions = kept / "facts/predictions/run_id=night-1"
    shutil.rmtree(predictions)
    write_shard(kept, "predictions", "night-1", "all", facts.prediction_rows(IDS, ["smile"] * 64))
    found = verify(kept, "night-3")
    assert found.state == "damaged" and any("nights" in text for text in found.mismatches)
