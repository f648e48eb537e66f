"""The first steps, with the wheel and what the lock lists and nothing else: the demo finds the planted shortcut, accuses nobody
else, and tells machines so; the gate fails one twin; the explorer shows both."""

import json
from pathlib import Path
from typing import Any

import pytest

import cfx
from tests.packaging.installations import ROOT, Installation, litter
from warehouse.lens.connect import query

pytestmark = pytest.mark.slow


def test_demo_ranks_glasses_first_for_the_planted_twin_only(locked: Installation, tmp_path: Path) -> None:
    steps = ROOT / "tests" / "packaging" / "first_steps.py"
    line = locked.run("python", str(steps), "64", cwd=litter(tmp_path)).stdout.splitlines()[-1]
    seen = json.loads(line)
    assert seen["version"] == cfx.__version__
    assert seen["explorer"]["listed"] == ["planted", "clean"] and seen["explorer"]["foreign"] == 400
    found, folder = seen["demo"], tmp_path / "cfx-demo"
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
    assert held(seen["gates"]["planted"]) == (1, "fail", ["glasses"])
    assert held(seen["gates"]["clean"]) == (0, "pass", [])
    for twin in (planted, clean):
        page = (folder / "warehouse" / "reports" / f"{twin['run_id']}.html").read_text()
        assert "Do saliency and change lie where the attribute shows?" in page  # graded by the renderer's truth
        assert ">Saliency<" in page  # beside each counterfactual of the gallery
    graded = query(folder / "warehouse", f"from truth_agreement where run_id = '{planted['run_id']}'").to_pylist()
    assert {(row["attribute"], row["evidence"]) for row in graded} == {
        (attribute, evidence) for attribute in ("smile", "glasses") for evidence in ("grad_cam", "change", "mask")
    }


def held(gate: dict[str, Any]) -> tuple[int, str, list[str]]:
    """What the gate says of a run: exit code, verdict, the attributes that fail."""
    assert (gate["verdict"] == "fail") == any(reason.startswith("glasses effect") for reason in gate["reasons"])
    return gate["code"], gate["verdict"], [rule["subject"] for rule in gate["rules"] if rule["result"] == "fail"]
