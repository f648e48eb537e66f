"""The demo finds the planted shortcut and accuses nobody else, and says so to machines in its last line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_demo_ranks_glasses_first_for_the_planted_twin_only(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("cfx")), "demo", "--folder", str(tmp_path), "--images", "96", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    planted, clean = told["planted"], told["clean"]
    assert planted["flip_rate"] >= 0.95 and clean["flip_rate"] >= 0.95
    first = planted["attributes"][0]
    assert first["attribute"] == "glasses" and first["low"] > 0
    assert "smile" not in [row["attribute"] for row in planted["attributes"]]
    assert not [row for row in clean["attributes"] if row["verdict"] in ("confirmed", "suspected")]
    assert {"seconds", "planted", "clean"} == set(told)
    for twin in (planted, clean):
        assert (tmp_path / "warehouse" / "reports" / f"{twin['run_id']}.html").is_file()
