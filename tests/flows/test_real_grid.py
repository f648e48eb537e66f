"""The grid of real images: enough planted and clean cells, new seeds, and how a cell is graded."""

import json
from pathlib import Path

import pytest

from cfx.errors import UserError
from flows.real import FULL, GRADED_FROM, QUICK, grade, real_config, run_real
from tasks.training import real_data
from tasks.training.real import REAL_KINDS, Real
from tasks.training.real_data import FASHION


def test_the_full_grid_has_enough_cells_of_either_data_and_new_seeds():
    planted, clean = ([one for one in FULL.plantings if bool(one.rho) is side] for side in (True, False))
    assert len(planted) >= 24 and len(clean) >= 12 and len(FULL.plantings) == len(set(FULL.plantings))
    assert {one.kind for one in planted if one.data == "solar"} == set(REAL_KINDS)
    assert min(one.seed for one in (*FULL.plantings, *QUICK.plantings)) >= GRADED_FROM
    assert {bool(one.rho) for one in QUICK.plantings} == {True, False}


def test_an_audit_is_not_told_what_was_planted(tmp_path: Path):
    planting = Real(data="fashion", kind="tag", seed=100)
    networks = (tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    config = real_config(tmp_path, planting, tmp_path / "table.csv", networks, None)
    assert "tag" not in json.dumps(config.model_dump(mode="json", exclude={"name", "classifier", "warehouse", "data"}))
    assert config.data.size == 28  # the classifier sees the images' own pixels


def test_a_part_beyond_the_grid_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no cell is left of a grid of 2"):
        run_real(tmp_path, QUICK, lambda config: "", slice(9, None))


@pytest.mark.skipif(not FASHION.is_dir(), reason="no Fashion-MNIST: apt-get install dataset-fashion-mnist")
def test_data_that_are_missing_are_said_before_the_first_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(real_data, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="solar cells are not installed"):
        run_real(tmp_path, QUICK, lambda config: "")
    assert list(tmp_path.iterdir()) == []


def test_a_cell_is_graded_by_what_was_confirmed_and_by_a_measure_of_the_same_direction():
    cell = {"run_id": "fashion-blur-90-s100-abc", "kind": "blur", "rho": 0.9, "exact": 0.6}
    claims = [
        {"kind": "property", "name": "sharpness", "verdict": "confirmed", "intervention": -0.5},
        {"kind": "property", "name": "contrast", "verdict": "fragile", "intervention": 0.2},
    ]
    graded = grade(cell, claims, [{"share": 0.1, "cleared": False}])
    assert graded["found"] and graded["named"] and graded["measured"] == pytest.approx(0.1)
    assert graded["right"] == graded["called"] == ["sharpness"] and graded["suspected"] == ["contrast"]
    silent = grade(cell, claims[1:], [])
    assert not silent["found"] and not silent["named"] and silent["measured"] is None


@pytest.mark.long
@pytest.mark.skipif(not FASHION.is_dir(), reason="no Fashion-MNIST: apt-get install dataset-fashion-mnist")
def test_a_mark_is_measured_by_the_place_that_was_confirmed_for_it():
    cell = {"run_id": "fashion-tag-90-s200-abc", "kind": "tag", "rho": 0.9, "exact": 0.6}
    claims = [
        {"kind": "place", "name": "top left", "verdict": "confirmed", "intervention": 0.1},
        {"kind": "place", "name": "bottom right", "verdict": "confirmed", "intervention": 0.55},
    ]
    assert grade(cell, claims, [])["measured"] == pytest.approx(0.05)
    assert grade(cell, claims[:1], [])["measured"] is None
