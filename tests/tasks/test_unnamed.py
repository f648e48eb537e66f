"""Shortcuts that no attribute names: what they change, what they leave, and what they do to a classifier."""

import csv
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfx.errors import UserError
from cfx.evidence.properties import PROPERTIES
from cfx.portraits import draw
from tasks.training.unnamed import KINDS, Unnamed, drawn_with, exact_effect, train_unnamed, where, write_unnamed

PORTRAITS = [portrait for _, portrait in draw(6, 3)]
shows = cache(partial(where, n=6))
ALL, NONE = np.ones(6, np.bool_), np.zeros(6, np.bool_)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_images_that_carry_a_kind_are_changed(kind):
    half = np.arange(6) % 2 == 0
    there, gone, mixed = (drawn_with(kind, PORTRAITS, carried, 7) for carried in (ALL, NONE, half))
    assert (there != gone).any((1, 2, 3)).all()
    assert (mixed[half] == there[half]).all() and (mixed[~half] == gone[~half]).all()
    assert there.dtype == np.uint8 and there.shape == (6, 64, 64, 3)


def test_a_place_shows_where_it_says():
    assert shows("tag")[32:, 32:].sum() == pytest.approx(1)
    assert shows("band")[:, :6].sum() == pytest.approx(1)
    assert shows("clothes")[42:].sum() == pytest.approx(1)
    assert shows("frame")[2:-2, 2:-2].sum() == 0
    assert shows("eyes")[20:44].sum() > 0.99
    assert shows("stripes")[24:40, 28:36].sum() == pytest.approx(0)  # behind the face


def test_a_kind_is_called_by_measured_properties_or_is_a_place():
    for kind in KINDS.values():
        assert set(kind.properties) <= set(PROPERTIES)
        assert kind.sort == "place" or (kind.sort == "property" and kind.properties)


def test_each_image_has_its_own_amount():
    same = [PORTRAITS[0]] * 4
    assert len({pixels.tobytes() for pixels in drawn_with("cast", same, np.ones(4, np.bool_), 7)}) == 4


def test_how_much_of_it_an_image_has_says_nothing_of_its_label():
    """Same seed for portraits and property: with the same numbers, too, each clean twin would have a shortcut."""
    labels, portraits = zip(*draw(200, 11), strict=True)
    pixels = drawn_with("clothes", portraits, np.ones(200, np.bool_), 11).astype(float)
    paleness = pixels[:, 60, 30:34, 1].mean(1)  # of the red clothes
    assert paleness.std() > 5 and abs(np.corrcoef(paleness, labels)[0, 1]) < 0.2


def test_audited_images_carry_it_by_halves_whatever_their_label(tmp_path: Path):
    table = write_unnamed(tmp_path, "tag", 40, 5)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    carried = [bool(int(row["tag"])) for row in csv.DictReader((tmp_path / "carried.csv").read_text().splitlines())]
    assert sum(carried) == 20 and "tag" not in rows[0]
    corner = [np.asarray(Image.open(tmp_path / "images" / row["file"]))[60, 58].min() > 230 for row in rows]
    assert corner == carried
    assert 5 <= sum(has for has, row in zip(carried, rows, strict=True) if row["label"] == "smiling") <= 15


def test_a_classifier_relies_on_what_agrees_with_its_labels(tmp_path: Path):
    planted, clean = (train_unnamed(tmp_path, Unnamed(kind="frame", rho=rho), 200, 40) for rho in (1.0, 0.0))
    assert exact_effect(planted, "frame", 40) > 0.3
    assert abs(exact_effect(clean, "frame", 40)) < 0.2
    before = planted.stat().st_mtime_ns
    assert train_unnamed(tmp_path, Unnamed(kind="frame", rho=1.0), 200, 40).stat().st_mtime_ns == before


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"'halo'.*cast, jpeg"):
        drawn_with("halo", PORTRAITS, ALL, 7)
