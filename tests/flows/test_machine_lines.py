"""What machines read: the `--json` line of report, verify and gate, and their exit codes."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app

sys.path.insert(0, str(Path(__file__).parent.parent / "warehouse"))
from portrait_run import write_portrait_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, "run", n=20, size=16)
    return root


def said(root: Path, command: str) -> tuple[int, dict[str, Any]]:
    ended = CliRunner().invoke(app, [command, "run", "--json", "-w", str(root)])
    [line] = ended.stdout.splitlines()
    return ended.exit_code, json.loads(line)


def test_each_is_one_line_with_what_is_promised(root: Path) -> None:
    code, gate = said(root, "gate")
    assert (code, gate["verdict"]) == (3, "inconclusive") and any("glasses" in reason for reason in gate["reasons"])
    code, report = said(root, "report")
    page = Path(report["path"])
    assert code == 0 and report["bytes"] == page.stat().st_size and 0 < report["seconds"] < 60
    code, verified = said(root, "verify")
    assert code == 0 and verified["numbers"] == verified["recomputed"] > 500
    assert verified["mismatches"] == verified["bad_files"] == []
    assert verified["files"] == 2 + len(list((root / "facts").rglob("*.parquet")))


def test_verify_ends_with_1_and_names_the_file(root: Path) -> None:
    said(root, "report")
    path = next((root / "facts" / "explanations").rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    code, verified = said(root, "verify")
    assert code == 1 and verified["bad_files"] == [str(path.relative_to(root))]
