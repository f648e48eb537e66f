"""Choosing a ladder: the search over scales by hand, and the whole on a few portraits."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cfx.methods.dime import DiME, FastDiME
from cfx.portraits import write_portraits
from flows.cli import app
from flows.config import load_config
from tasks.advice.calibrate import Strength, changed, rungs, search, settings


def flips_like(curve: dict[float, float]) -> list[Strength]:
    measured: list[float] = []

    def measure(scale: float) -> Strength:
        measured.append(scale)
        return Strength(scale, curve[scale], None, 0.0)

    found = search(measure, 8.0)
    assert sorted(measured) == [row.scale for row in found]  # each scale once
    return found


def test_scales_are_looked_for_both_ways_from_the_start() -> None:
    found = flips_like({2: 0.1, 4: 0.5, 8: 0.8, 16: 0.97, 32: 1.0})
    assert [row.scale for row in found] == [2, 4, 8, 16, 32]
    assert rungs(found) == [4, 11, 32]  # 11 is the square root of 4 x 32
    assert rungs(flips_like({4: 0.0, 8: 0.9, 16: 1.0})) == [8, 16]
    assert rungs(flips_like({4: 0.2, 8: 1.0})) == [8]


def test_too_much_strength_ends_the_search() -> None:
    found = flips_like({8: 0.3, 16: 0.6, 32: 0.4})
    assert [row.scale for row in found] == [8, 16, 32] and rungs(found) == [16]


def test_nothing_flips_at_any_scale() -> None:
    found = flips_like({8.0 * 2**i: 0.0 for i in range(8)})
    with pytest.raises(ValueError, match="no image flips at any scale up to 512"):
        rungs(found)


def test_a_rung_reads_back_as_itself() -> None:
    rung = changed(FastDiME(steps=50, tau=18, threshold=0.3), scale=12.5, tau=9)
    assert settings(rung) == {"method": "fastdime", "steps": 50, "tau": 9, "scale": 12.5, "threshold": 0.3}
    assert FastDiME.model_validate(settings(rung)) == rung
    with pytest.raises(ValueError, match="tau is 60"):
        changed(DiME(), steps=50)


@pytest.mark.slow
def test_calibrating_an_audit_gives_a_ladder_that_loads(tmp_path: Path) -> None:
    write_portraits(tmp_path / "data", 8, seed=5)
    audit = {
        "name": "trial",
        "data": {"images": "data/images", "table": "data/attributes.csv", "label_column": "label"},
        "classifier": {"weights": "portraits:planted"},
        "judge": {"weights": "portraits:judge"},
        "oracle": {"weights": "portraits:oracle"},
        "prior": {"path": "portraits:prior"},
        "ladder": [{"method": "fastdime", "steps": 25, "tau": 9, "scale": 30}],
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(audit))
    answer = CliRunner().invoke(app, ["calibrate", str(tmp_path / "run.yaml"), "--images", "8", "--json"])
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout.strip().splitlines()[-1])
    kept = [row["kept"] for row in found["depths"]]
    assert found["n"] == 8 and len(kept) > 1 and all(share >= 0.8 for share in kept[:-1])
    survived = [row["tau"] for row in found["depths"] if row["kept"] >= 0.8]
    assert {rung["tau"] for rung in found["ladder"]} == {survived[-1]}
    assert found["ladder"][-1]["scale"] in [row["scale"] for row in found["strengths"]]
    pasted = answer.stdout[answer.stdout.index("ladder:") :].rsplit("\n{", 1)[0]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**audit, **yaml.safe_load(pasted)}))
    assert len(load_config(tmp_path / "run.yaml").ladder) == len(found["ladder"])
