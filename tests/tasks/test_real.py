"""Shortcuts on real images: pairs that are alike, what is laid on, what a classifier makes of it, and data that are missing."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cfx.errors import UserError
from tasks.training import real_data
from tasks.training.real import REAL_KINDS, TYPE, Pool, Real, carrying, pairs_alike, parts, real_effect, train_real, where_laid

CHANCE = np.random.default_rng(0)
POOL = Pool(CHANCE.integers(60, 200, (8, 28, 28, 3), np.uint8), np.arange(8) % 2 == 0, {"mono": np.arange(8) < 4})
fashion = pytest.mark.skipif(not real_data.FASHION.is_dir(), reason="no Fashion-MNIST: apt-get install dataset-fashion-mnist")
cells = pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="no solar cells: pip install elpv-dataset")


def test_pairs_are_of_either_class_of_one_group_and_alike():
    values = np.array([[0.0], [0.1], [5.0], [0.05], [0.2], [9.0]])
    second, group = np.array([0, 1, 1, 0, 1, 0], bool), np.array([0, 0, 0, 1, 1, 1], bool)
    assert sorted(pairs_alike(values, second, group).tolist()) == [0, 1, 3, 4]


@pytest.mark.parametrize("kind", [kind for kind in REAL_KINDS if kind != TYPE])
def test_only_the_images_that_carry_a_kind_are_changed(kind):
    carried = np.arange(8) % 2 == 0
    mixed = carrying(POOL, kind, carried, 0)
    assert (mixed[carried] != POOL.pixels[carried]).any((1, 2, 3)).all()
    assert (mixed[~carried] == POOL.pixels[~carried]).all()


def test_a_tag_shows_in_its_corner_and_a_band_at_its_side():
    assert where_laid("tag", POOL)[14:, 14:].sum() == pytest.approx(1)
    assert where_laid("band", POOL)[:, :3].sum() == pytest.approx(1)
    assert where_laid(TYPE, POOL).sum() == 0


def test_missing_clothes_are_said_with_the_way_to_have_them(tmp_path: Path):
    with pytest.raises(UserError, match="apt-get install dataset-fashion-mnist"):
        real_data.fashion("train", tmp_path)


def test_missing_cells_are_said_with_the_way_to_have_them(monkeypatch):
    monkeypatch.setattr(real_data, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps elpv-dataset"):
        real_data.solar_cells(9)


@fashion
def test_clothes_are_as_published():
    found = real_data.fashion("t10k")
    assert found.pixels.shape == (10_000, 28, 28) and set(found.labels) == set(real_data.CLOTHES)
    assert (found.labels == "coat").sum() == 1_000


@cells
def test_cells_are_those_that_experts_were_sure_about():
    found = real_data.solar_cells(16)
    assert found.pixels.shape == (2_223, 16, 16) and (found.labels == "defective").sum() == 715
    assert found.attributes["mono"].sum() == 901


@fashion
@pytest.mark.long
def test_a_classifier_relies_on_a_tag_that_agrees_with_its_labels(tmp_path: Path):
    planted, clean = (Real(data="fashion", kind="tag", rho=rho) for rho in (1.0, 0.0))
    split = parts("fashion", planted.classes, 0, (16, 400))
    assert not set(map(bytes, split.training.pixels)) & set(map(bytes, split.audited.pixels))
    effects = [real_effect(train_real(tmp_path, one, split, 60), one, split.held_out) for one in (planted, clean)]
    assert effects[0] > 0.3 and abs(effects[1]) < 0.15
