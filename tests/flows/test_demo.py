"""The demo finds the planted shortcut and accuses nobody else, and says so to machines in its last line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.ask import query

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
        page = (tmp_path / "warehouse" / "reports" / f"{twin['run_id']}.html").read_text()
        assert "Do saliency and change lie where the attribute shows?" in page  # graded by the renderer's truth
        assert ">Saliency<" in page  # beside each counterfactual of the gallery
    graded = query(tmp_path / "warehouse", f"from truth_agreement where run_id = '{planted['run_id']}'").to_pylist()
    assert {(row["attribute"], row["evidence"]) for row in graded} == {
        (attribute, evidence) for attribute in ("smile", "glasses") for evidence in ("grad_cam", "change", "mask")
    }
