"""The demo, from a wheel in an empty environment: it finds the planted shortcut, accuses nobody else, and tells machines so."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from tests.packaging.installations import Installation, litter
from warehouse.lens.connect import query

pytestmark = pytest.mark.slow


def test_demo_ranks_glasses_first_for_the_planted_twin_only(from_wheel: Installation, tmp_path: Path) -> None:
    line = from_wheel.run("cfx", "demo", "--images", "64", "--json", cwd=litter(tmp_path)).stdout.splitlines()[-1]
    found, folder = json.loads(line), tmp_path / "cfx-demo"
    planted, clean = found["planted"], found["clean"]
    assert planted["flip_rate"] >= 0.95 and clean["flip_rate"] >= 0.95
    first = planted["attributes"][0]
    assert first["attribute"] == "glasses" and first["low"] > 0
    assert "smile" not in [row["attribute"] for row in planted["attributes"]]
    assert not [row for row in clean["attributes"] if row["verdict"] in ("confirmed", "suspected")]
    assert [twin["explained"][0]["cleared"] for twin in (planted, clean)] == [True, True]
    assert planted["explained"][0]["share"] >= 0.85 and clean["explained"][0]["share"] >= 0.95
    for twin in (planted, clean):  # nothing that has no name is accused
        assert not [row for row in twin["findings"] if row["kind"] != "attribute" and row["verdict"] == "confirmed"]
    assert {"seconds", "planted", "clean"} == set(found)
    assert held(folder, planted["run_id"]) == (1, "fail", ["glasses"])
    assert held(folder, clean["run_id"]) == (0, "pass", [])
    for twin in (planted, clean):
        page = (folder / "warehouse" / "reports" / f"{twin['run_id']}.html").read_text()
        assert "Do saliency and change lie where the attribute shows?" in page  # graded by the renderer's truth
        assert ">Saliency<" in page  # beside each counterfactual of the gallery
    graded = query(folder / "warehouse", f"from truth_agreement where run_id = '{planted['run_id']}'").to_pylist()
    assert {(row["attribute"], row["evidence"]) for row in graded} == {
        (attribute, evidence) for attribute in ("smile", "glasses") for evidence in ("grad_cam", "change", "mask")
    }


def held(folder: Path, run: str) -> tuple[int, str, list[str]]:
    """What the gate says of a run: exit code, verdict, the attributes that fail.

    The demo's 128 images settle effects of .15, the gate's default; these 64 take a wider bound.
    """
    (folder / "gate.yaml").write_text("maximum_effect: 0.2\n")
    policy = ["--policy", str(folder / "gate.yaml")]
    ended = CliRunner().invoke(app, ["gate", run, *policy, "-w", str(folder / "warehouse"), "--json"])
    found = json.loads(ended.stdout)
    assert (found["verdict"] == "fail") == any(reason.startswith("glasses effect") for reason in found["reasons"])
    return ended.exit_code, found["verdict"], [rule["subject"] for rule in found["rules"] if rule["result"] == "fail"]
