"""Facts about Portraits: what a toggle changes and what it does not, what is planted, and what it does to a classifier."""

import csv
import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from cfx.portraits import ATTRIBUTES, carry_mark, draw, draw_attributes, render, true_effects, write_portraits
from cfx.training.portraits import rendered

PORTRAITS = [portrait for _, portrait in draw(24, seed=5)]

# Where each attribute may change an image; x to the right and y downwards from the middle of the upright face, in sides.
REGIONS = {
    "smile": lambda x, y: (abs(x) < 0.14) & (y > 0.10) & (y < 0.24),
    "glasses": lambda x, y: (abs(x) < 0.27) & (y > -0.12) & (y < 0.07),
    "hat": lambda x, y: y < -0.12,
    "beard": lambda x, y: (abs(x) < 0.27) & (y > -0.04) & (y < 0.34),
    "dark_hair": lambda x, y: (abs(x) > 0.10) | (y < -0.05) | (y > 0.02),
    "long_hair": lambda x, y: (abs(x) > 0.12) | (y < -0.10) | (y > 0.15),
    "rosy_cheeks": lambda x, y: (y > -0.10) & (y < 0.27),
    "earrings": lambda x, y: (abs(x) > 0.18) & (abs(x) < 0.30) & (y > 0.05) & (y < 0.15),
    "raised_brows": lambda x, y: (abs(x) < 0.19) & (y > -0.19) & (y < -0.05),
    "warm_background": lambda x, y: (x / 0.18) ** 2 + (y / 0.25) ** 2 > 1,
}


def test_the_images_are_the_same_on_every_machine():
    pixels = b"".join(render(portrait, 64).tobytes() for _, portrait in draw(64, seed=7))
    assert hashlib.sha256(pixels).hexdigest() == "8903cb151a0eb966a87109e46ba8cf94d437b60f7bcb264823e2a0583843971c"


def test_a_mark_is_in_the_corner_of_as_many_images_as_wanted_and_changes_nothing_else():
    images, labels, attributes = rendered(400, seed=3, mark=0.9)
    plain, *same = rendered(400, seed=3)
    assert (labels == same[0]).all() and (attributes == same[1]).all()
    changed = (images != plain).any(1)
    assert not changed[:, 8:].any() and not changed[:, :, 8:].any()
    marked = changed.any((1, 2))
    assert torch.equal(marked, torch.from_numpy(carry_mark(labels.numpy() == 1, 0.9, 3)))
    assert abs((marked == (labels == 1)).float().mean() - 0.9) < 0.05


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_toggle_changes_its_own_region_only_and_can_be_undone(attribute):
    changed_at_all = 0
    for portrait in PORTRAITS:
        before, after = render(portrait), render(portrait.toggled(attribute))
        line = (np.arange(64) + 0.5) / 64
        v, u = np.meshgrid(line - portrait.centre[1], line - portrait.centre[0], indexing="ij")
        x, y = np.cos(portrait.tilt) * u + np.sin(portrait.tilt) * v, np.cos(portrait.tilt) * v - np.sin(portrait.tilt) * u
        changed = (before != after).any(2)
        assert not (changed & ~REGIONS[attribute](x, y)).any()
        changed_at_all += changed.any()
        assert np.array_equal(render(portrait.toggled(attribute).toggled(attribute)), before)
    assert changed_at_all >= 23  # a hat may hide raised brows, nothing hides more


def test_a_toggle_changes_one_attribute_and_no_nuisance():
    toggled = PORTRAITS[0].toggled("hat")
    assert [a for a in ATTRIBUTES if toggled.has(a) != PORTRAITS[0].has(a)] == ["hat"]
    assert toggled.toggled("hat") == PORTRAITS[0]


def test_agreement_is_planted_as_wanted_and_nothing_else_is():
    agreement = {"smile": 0.92, "glasses": 0.90}
    labels, attributes = draw_attributes(np.random.default_rng(0), 20_000, agreement)
    realised = (attributes == labels[:, None]).mean(0)
    for attribute, share in zip(ATTRIBUTES, realised, strict=True):
        assert share == pytest.approx(agreement.get(attribute, 0.5), abs=0.015)  # four standard errors
    assert labels.mean() == pytest.approx(0.5, abs=0.015)
    assert attributes.mean(0) == pytest.approx(0.5, abs=0.015)
    correlation = np.corrcoef(np.column_stack([labels, attributes]).T) - np.eye(11)
    # corr(smile, y) = 2 x .92 - 1, corr(glasses, y) = 2 x .90 - 1, and they meet only through y
    assert correlation[1, 2] == pytest.approx(0.84 * 0.80, abs=0.03)
    assert np.abs(correlation[3:, :]).max() < 0.03


def test_attributes_that_always_and_never_agree():
    labels, attributes = draw_attributes(np.random.default_rng(0), 500, {"smile": 1.0, "hat": 0.0})
    assert (attributes[:, ATTRIBUTES.index("smile")] == labels).all()
    assert (attributes[:, ATTRIBUTES.index("hat")] != labels).all()


def test_a_smaller_set_is_a_prefix_of_a_larger_one():
    assert list(draw(5, seed=3)) == list(draw(9, seed=3))[:5]
    assert list(draw(5, seed=3)) != list(draw(5, seed=4))


def test_planting_changes_attributes_and_nothing_else_of_the_face():
    for (_, fair), (_, planted) in zip(draw(8, seed=3), draw(8, seed=3, agreement={"glasses": 1.0}), strict=True):
        for attribute in ATTRIBUTES:
            if fair.has(attribute) != planted.has(attribute):
                fair = fair.toggled(attribute)
        assert fair == planted


def test_unknown_attributes_and_impossible_probabilities_are_refused_by_name():
    with pytest.raises(ValueError, match="no attribute 'moustache'; it has smile, glasses"):
        PORTRAITS[0].toggled("moustache")
    with pytest.raises(ValueError, match="no attribute 'moustache'; it has smile, glasses"):
        draw_attributes(np.random.default_rng(0), 3, {"moustache": 0.9})
    with pytest.raises(ValueError, match=r"agreement of 'smile' is 1\.2"):
        draw_attributes(np.random.default_rng(0), 3, {"smile": 1.2})


def test_what_is_written_is_what_was_drawn(tmp_path):
    table = write_portraits(tmp_path, 40, seed=2, size=32, test_share=0.25)
    with table.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["file", "split", "label", *ATTRIBUTES]
    for row, (label, portrait) in zip(rows, draw(40, seed=2), strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "images" / row["file"])), render(portrait, 32))
        assert [row[a] for a in ATTRIBUTES] == [str(int(portrait.has(a))) for a in ATTRIBUTES]
        assert (row["label"] == "smiling") == label == portrait.has("smile")
    assert 2 <= sum(row["split"] == "test" for row in rows) <= 20


def test_a_planted_set_is_labelled_by_its_annotation_and_a_smaller_one_is_its_prefix(tmp_path):
    agreement = {"smile": 0.6, "glasses": 0.9}
    longer = write_portraits(tmp_path / "longer", 40, seed=2, agreement=agreement, size=16).read_text()
    shorter = write_portraits(tmp_path / "shorter", 10, seed=2, agreement=agreement, size=16).read_text()
    assert longer.startswith(shorter)
    rows = list(csv.DictReader(longer.splitlines()))
    assert [row["label"] == "smiling" for row in rows] == [label for label, _ in draw(40, 2, agreement)]
    assert any((row["label"] == "smiling") != (row["smile"] == "1") for row in rows)


def warmth(x: torch.Tensor) -> torch.Tensor:
    """Logits of a classifier that looks at the colour of one corner."""
    return torch.stack([torch.zeros(len(x)), 2 * (x[:, 0, 0, 0] - x[:, 2, 0, 0])], 1)


def test_true_effects_of_a_classifier_that_looks_at_the_background():
    effects = true_effects(warmth, PORTRAITS, size=32)
    assert [e.attribute for e in effects] == list(ATTRIBUTES)
    assert {e.n for e in effects} == {24}
    found = {e.attribute: e.effect for e in effects}
    assert found.pop("warm_background") > 0.5
    assert set(found.values()) == {0.0}


def test_true_effects_do_not_depend_on_the_batch_and_turn_round_with_the_class():
    whole, parts = true_effects(warmth, PORTRAITS, size=32), true_effects(warmth, PORTRAITS, size=32, batch_size=7)
    other = true_effects(warmth, PORTRAITS, target=0, size=32)
    assert [e.effect for e in whole] == pytest.approx([e.effect for e in parts], abs=1e-9)
    assert [e.effect for e in whole] == pytest.approx([-e.effect for e in other], abs=1e-6)


def test_true_effects_need_portraits():
    with pytest.raises(ValueError, match="at least one portrait"):
        true_effects(warmth, [])
