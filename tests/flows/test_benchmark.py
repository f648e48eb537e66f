"""The benchmark on its smallest grid: classifiers trained, audited and graded; again, nothing is computed twice."""

from pathlib import Path
from typing import Any

import pytest

from flows.audit import run_audit
from flows.benchmark import QUICK, Grid, marks, run_benchmark
from warehouse.connect import query

pytestmark = pytest.mark.slow
SMALLEST: Grid = QUICK._replace(sizes=(16, 32), edits=30, edited=1)


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    run_benchmark(folder, SMALLEST, run_audit)
    return folder


def ask(folder: Path, sql: str) -> list[dict[str, Any]]:
    return query(folder / "warehouse", sql).to_pylist()


def test_the_planted_shortcut_is_found_and_its_clean_twin_is_not_accused(graded: Path) -> None:
    found = marks(graded / "warehouse")
    assert found["images"] == 32 and len(found["cells"]) == 4
    assert found["top1"] == found["confirmed"] == found["clean_silent"] == 1
    assert found["realised_fdr"] == 0
    assert {(cell["rho"], cell["images"]) for cell in found["cells"]} == {(0.0, 16), (0.0, 32), (0.9, 16), (0.9, 32)}


def test_the_planted_twin_truly_leans_on_glasses_and_the_clean_one_does_not(graded: Path) -> None:
    rows = ask(graded, "select rho, effect from truths where attribute = 'glasses' and images = 32 order by rho")
    assert abs(rows[0]["effect"]) < 0.1 < rows[1]["effect"]
    [row] = ask(graded, "select * from graded where rho > 0 and attribute = 'glasses' and images = 32")
    assert row["estimate"] == pytest.approx(row["exact"], abs=0.2)


def test_an_audit_of_the_first_images_is_a_part_of_the_audit_of_more(graded: Path) -> None:
    counts = ask(graded, "select run_id, count(distinct image_id) as n from explanations group by run_id order by n")
    assert [row["n"] for row in counts] == [16, 16, 32, 32]


def test_again_nothing_is_computed(graded: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted(graded.rglob("*.parquet")) + sorted(graded.rglob("*.safetensors"))}
    run_benchmark(graded, SMALLEST, run_audit)
    assert {
        path: path.stat().st_mtime_ns for path in sorted(graded.rglob("*.parquet")) + sorted(graded.rglob("*.safetensors"))
    } == before
