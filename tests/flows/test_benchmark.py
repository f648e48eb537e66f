"""The benchmark on a grid of two small cells: trained, audited, graded, and gone on with where it stopped."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from typer.testing import CliRunner

from cfx.attributes.oracle import OracleConfig, load_oracle
from cfx.portraits import ATTRIBUTES, MARK_COLOUR, write_portraits
from flows.audit import run_audit
from flows.benchmark import FULL, GRIDS, IMAGES, Grid, cells, planted, portraits_of, run_benchmark
from flows.cli import app
from flows.deployed import grading
from tasks.training.planted import Planting, train_noisy_oracle
from warehouse.lens.connect import query

SHORTCUT = planted(("glasses",), (0.9,), (0,))
TINY = Grid(SHORTCUT, sizes=(2, 4), edits=2, edited=1, training_images=400, steps=30, portraits=24)
EXPLAINED = """select name, count(distinct image_id) as n
    from explanations join (select run_id, name from runs) using (run_id) group by name"""


@pytest.mark.long
def test_a_cell_is_trained_audited_and_graded_at_both_sizes(
    tmp_path: Path, prefect_server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GRIDS, "tiny", TINY)
    run_benchmark(tmp_path, TINY, run_audit)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "warehouse" / "facts").rglob("*.parquet")}
    found = grading(tmp_path, "tiny")
    assert {path: path.stat().st_mtime_ns for path in files} == files

    with get_client(sync_client=True) as client:
        (shown,) = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["benchmark-cells"])))
    assert len(json.loads(str(shown.data))) == len(found["cells"])
    assert [(cell["rho"], cell["images"]) for cell in found["cells"]] == [(0.9, 2), (0.9, 4)]
    assert found["images"] == 4 and found["top1"] in (0, 1) and found["clean_silent"] is None
    kept = sorted({path.name for path in (tmp_path / "warehouse/kept").glob("claims/*")})
    assert len(kept) == 2, "the end of each audit keeps what a question about all of them takes longest for"
    # an audit of fewer images is the part of the larger one that is about them
    assert {row["name"]: row["n"] for row in query(tmp_path / "warehouse", EXPLAINED).to_pylist()} == {
        "shortcut-glasses-90-s0-maskdime": 4,
        "shortcut-glasses-90-s0-maskdime-n2": 2,
    }
    truths = query(tmp_path / "warehouse", "select distinct attribute, effect from truths where rho = 0.9").to_pylist()
    assert len(truths) == 10
    assert next(row["effect"] for row in truths if row["attribute"] == "glasses") > 0.05


def test_the_full_grid_has_every_correlation_of_every_shortcut_and_clean_twins() -> None:
    grid = list(cells(FULL))
    assert len(grid) == len(set(grid)) == 2 * (2 + 3 * 4 * 2)
    assert [cell.method for cell in grid[:28]] == ["maskdime", "fastdime"] * 14
    assert {cell.planting.rho for cell in grid[4:28]} == {0.9, 0.7}
    assert {cell.planting.rho for cell in grid[28:]} == {0.5, 0.3}


def test_a_part_without_a_cell_is_refused(tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["benchmark", "--full", "--skip", "60", "--folder", str(tmp_path)])
    assert ended.exit_code == 2 and "no cell is left of a grid of 52: skip 60, up to 52" in " ".join(ended.output.split())


def test_a_noisy_oracle_audits_the_classifier_of_the_same_shortcut(tmp_path: Path) -> None:
    noisy, shortcut = (Planting(kind=kind, attributes=("glasses",), rho=0.9) for kind in ("noisy", "shortcut"))
    assert noisy.classifier == shortcut.classifier and noisy.name != shortcut.name
    weights = train_noisy_oracle(tmp_path, images=200, steps=5)
    written = weights.stat().st_mtime_ns
    assert load_oracle(OracleConfig(weights=weights), "cpu").attributes == ATTRIBUTES
    assert train_noisy_oracle(tmp_path, images=200, steps=5).stat().st_mtime_ns == written


def test_a_mark_is_planted_in_the_classifier_and_in_half_of_the_audited_portraits(tmp_path: Path) -> None:
    mark = Planting(kind="mark", rho=0.9)
    assert mark.classifier == "mark-90-s0" and mark.agreement() == {"smile": 0.92}
    table = write_portraits(portraits_of(tmp_path, "mark"), 40, IMAGES, marks=0.5)
    images = [np.asarray(Image.open(path)) for path in sorted((table.parent / "images").glob("*.png"))]
    assert 10 < sum(tuple(image[0, 0]) == MARK_COLOUR for image in images) < 30
    assert portraits_of(tmp_path, "two") == portraits_of(tmp_path, "shortcut") != portraits_of(tmp_path, "mark")


def test_what_agrees_with_the_cause_agrees_less_with_the_label() -> None:
    shortcut, cause = (
        Planting(kind=kind, attributes=("glasses",), rho=0.9).agreement()["glasses"] for kind in ("shortcut", "cause")
    )
    assert shortcut == pytest.approx(0.95)
    assert cause == pytest.approx((1 + 0.9 * 0.84) / 2)
