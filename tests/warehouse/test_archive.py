"""An archive is the whole evidence of a run: what was altered stays altered, and one changed byte is found."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from evidence_run import flip, write_evidence

from warehouse.evidence.export import export, verify_archive
from warehouse.explorer.reviews import review
from warehouse.lens.connect import query


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    write_evidence(root)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(written, tmp_path / "warehouse"))


def test_an_archive_never_mends_what_was_altered(root: Path, tmp_path: Path) -> None:
    report = root / "reports" / "run.html"
    flip(report)
    altered = report.read_bytes()
    with zipfile.ZipFile(export(root, "run", tmp_path / "run.zip")) as archive:
        assert archive.read("reports/run.html") == altered


def test_an_archive_is_the_whole_evidence_also_what_is_newer_than_the_report(root: Path, tmp_path: Path) -> None:
    review(root, "run", "Ada", "rejected", attribute="glasses")
    path = export(root, "run", tmp_path / "run.zip")
    assert verify_archive(path).sound
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        assert {"README.md", "SHA256SUMS", "config.yaml", "summary.json", "reports/run.html"} < names
        _, head, body = archive.read("README.md").decode().split("---\n", 2)
        archive.extractall(tmp_path / "unpacked")
    card = yaml.safe_load(head)
    metrics = card["model-index"][0]["results"][0]["metrics"]
    assert {"fr", "judge_fr"} <= {metric["type"] for metric in metrics} and "<b>" not in body
    verdicts = "from verdicts order by run_id, rank"
    assert query(tmp_path / "unpacked", verdicts).equals(query(root, verdicts))
    assert export(root, "run", tmp_path / "again.zip").read_bytes() == path.read_bytes()


def test_a_flipped_byte_in_an_archive_is_found(written: Path, tmp_path: Path) -> None:
    path = export(written, "run", tmp_path / "run.zip")
    for share in (0.3, 0.7):
        flip(path, share)
        try:
            assert not verify_archive(path).sound
        except ValueError as error:
            assert str(path) in str(error)
        flip(path, share)
