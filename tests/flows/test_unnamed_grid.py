"""The grid of unnamed shortcuts: every kind, strength and seed with a clean twin, audited without a word of what was planted."""

import json
from pathlib import Path

import pytest

from cfx.errors import UserError
from flows.unnamed import FULL, GRADED_KINDS, QUICK, run_unnamed, unnamed_config
from tasks.training.unnamed import KINDS, Unnamed


def test_the_full_grid_has_every_kind_strength_and_seed_and_clean_twins():
    assert len(GRADED_KINDS) >= 10 and set(GRADED_KINDS) <= set(KINDS)
    assert len(FULL.plantings) == len(set(FULL.plantings)) == len(GRADED_KINDS) * (1 + 2 * 2)
    assert {one.kind for one in FULL.plantings if one.rho == 0} == set(GRADED_KINDS)
    assert {(one.rho, one.seed) for one in FULL.plantings if one.kind == "tag"} == {
        (0.0, 0),
        (0.9, 0),
        (0.9, 1),
        (0.6, 0),
        (0.6, 1),
    }
    assert {one.rho for one in QUICK.plantings} == {0.0, 0.9}


def test_an_audit_is_not_told_what_was_planted(tmp_path: Path):
    config = unnamed_config(tmp_path, QUICK, Unnamed(kind="tag"), tmp_path / "weights.safetensors")
    without = config.model_dump(mode="json", exclude={"name", "classifier", "warehouse", "data"})
    assert "tag" not in json.dumps(without)


def test_a_part_beyond_the_grid_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no cell is left of a grid of 3"):
        run_unnamed(tmp_path, QUICK, lambda config: "", slice(9, None))
