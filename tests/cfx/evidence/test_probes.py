"""Probes: what a dose does to an image, which property an answer relies on, and what counts as fragile."""

import numpy as np
import pytest

from cfx.evidence.paired import discoveries, paired_effects
from cfx.evidence.probes import MIRROR, PROBES, Doses, Probed, association, doses, findings, probe_all, probed, queries
from cfx.evidence.properties import PROPERTIES, property_table
from cfx.portraits import draw, render

N = 32


ROWS, COLUMNS = np.mgrid[:64, :64] - 32
DISCS = np.stack([np.where((r**2 > ROWS**2 + COLUMNS**2)[..., None], 90, np.full((1, 1, 3), 200)) for r in range(8, 20, 2)])
DISCS = DISCS.astype(np.uint8)


def cast(image):
    return np.clip(image * np.array([1.12, 1, 0.86]), 0, 255).astype(np.uint8)


def framed(image):
    image = image.copy()
    image[:2] = image[-2:] = image[:, :2] = image[:, -2:] = 20
    return image


@pytest.fixture(scope="module")
def portraits():
    return np.stack([render(portrait) for _, portrait in draw(N, seed=8)])


def half_of(images, change):
    return np.stack([change(image) if i % 2 else image for i, image in enumerate(images)])


def reads(name, middle, scale):
    """A classifier that looks at one property and nothing else."""
    column = list(PROPERTIES).index(name)
    return lambda images: 1 / (1 + np.exp(-(property_table(images)[:, column] - middle) / scale))


def found(answer, images):
    before, table = answer(images), property_table(images)
    return findings(probe_all(answer, images, before, table), before, table)


@pytest.mark.parametrize("name", PROBES)
def test_strength_zero_leaves_an_image_and_the_ends_move_the_property(name, portraits):
    few = portraits[:6] if name != "subject_scale" else DISCS
    assert (probed(few, name, np.zeros(6)) == few).all()
    column = list(PROPERTIES).index(name)
    up, down = (property_table(probed(few, name, np.full(6, s)))[:, column].mean() for s in (1.0, -1.0 * PROBES[name].downwards))
    before = property_table(few)[:, column].mean()
    assert up > before
    assert down < before or not PROBES[name].downwards


def test_probes_are_eight_bit_and_the_same_every_time_and_in_every_order(portraits):
    few, strength = portraits[:4], np.array([0.3, 0.6, 0.9, 1.0])
    for name in PROBES:
        once = probed(few, name, strength)
        assert once.dtype == np.uint8 and once.shape == few.shape
        assert (once == probed(few[::-1], name, strength[::-1])[::-1]).all()


def test_grey_images_are_probed_too(portraits):
    grey = portraits[:3].mean(3, keepdims=True).astype(np.uint8)
    for name in PROBES:
        assert probed(grey, name, np.full(3, 0.5)).shape == grey.shape


def test_a_dose_takes_each_image_to_the_quantiles_of_the_data(portraits):
    images = half_of(portraits, lambda x: (0.8 * x).astype(np.uint8))
    table = property_table(images)
    column = list(PROPERTIES).index("brightness")
    at = doses(images, table, "brightness")
    high, below = np.quantile(table[:, column], 0.9), table[:, column] < np.quantile(table[:, column], 0.9)
    assert at.in_data
    moved = property_table(probed(images, "brightness", at.strengths[1]))[:, column]
    assert np.abs(moved[below] - high).mean() < 0.2 * np.abs(table[below, column] - high).mean()
    assert (at.strengths[0] <= 0).all() and (at.strengths[1] >= 0).all()
    assert (at.strengths[1][table[:, column] >= high] == 0).all()


def test_without_variation_a_small_dose_is_tried_and_told_apart(portraits):
    same = np.repeat(portraits[:1], 12, axis=0)
    assert not doses(same, property_table(same), "warmth").in_data


def test_what_decides_is_named_and_what_goes_along_is_not(portraits):
    images = half_of(portraits, framed)
    first = found(reads("border", -0.2, 0.05), images)[0]
    assert (first.property, first.kind, first.through, first.tied) == ("border", "relies on", "", ())
    assert first.effect.low > 0.5
    assert first.association > 0.5


def test_what_the_images_do_not_tell_apart_is_named_together(portraits):
    flat = np.random.default_rng(3).integers(60, 255, N)
    disc = (np.add.outer((np.arange(64) - 32) ** 2, (np.arange(64) - 32) ** 2) < 400)[..., None]
    on_black = np.where(disc, flat[:, None, None, None], 0).astype(np.uint8).repeat(3, axis=3)
    bright = lambda x: 1 / (1 + np.exp(-(x.mean((1, 2, 3)) - np.median(on_black.mean((1, 2, 3)))) / 4))  # noqa: E731
    tied = {f.property: f.tied for f in found(bright, on_black) if f.kind == "relies on"}
    assert "contrast" in tied["brightness"] and "brightness" in tied["contrast"]


def test_a_cast_is_found_under_the_colours_of_the_content(portraits):
    images = half_of(portraits, cast)
    white = lambda x: np.log2(np.quantile(x[..., 0], 0.98, axis=(1, 2)) / np.quantile(x[..., 2], 0.98, axis=(1, 2)))  # noqa: E731
    first = found(lambda x: 1 / (1 + np.exp(-8 * (white(x) - np.median(white(images))))), images)[0]
    assert (first.property, first.kind) == ("warmth", "relies on")


def test_a_classifier_of_the_content_relies_on_no_property(portraits):
    smiles = np.array([portrait.has("smile") for _, portrait in draw(N, seed=8)])
    reference = portraits[:, 40:50, 26:38].astype(float).mean(3)
    centre = reference.mean((0, 1, 2))
    axis = reference[smiles].mean(0) - reference[~smiles].mean(0)
    answer = lambda x: 1 / (1 + np.exp(-((x[:, 40:50, 26:38].mean(3) - centre) * axis).mean((1, 2)) / 300))  # noqa: E731
    assert [f.property for f in found(answer, portraits) if f.kind == "relies on"] == []


def test_moving_either_way_is_fragile_and_never_a_reliance(portraits):
    chance = {image.tobytes(): i % 2 for i, image in enumerate(portraits)}
    answer = lambda x: np.array([chance.get(image.tobytes(), 0.5) for image in x], float)  # noqa: E731
    kinds = {f.property: f.kind for f in found(answer, portraits)}
    assert set(kinds) == {*PROBES, MIRROR}
    assert kinds[MIRROR] == kinds["warmth"] == "fragile"
    assert "relies on" not in kinds.values()


def test_a_constant_classifier_has_no_finding(portraits):
    assert {f.kind for f in found(lambda x: np.full(len(x), 0.7), portraits)} == {""}


def test_the_budget_is_an_upper_bound(portraits):
    asked = []

    def answer(images):
        asked.append(len(images))
        return np.full(len(images), 0.5)

    few = portraits[:10]
    probe_all(answer, few, np.full(10, 0.5), property_table(few))
    assert 0 < sum(asked) <= queries(10)


def test_paired_effects_have_the_closed_forms_of_the_t_interval():
    effect = paired_effects(np.array([[0.1], [0.3], [np.nan], [0.2]]))[0]
    assert effect.n == 3
    assert effect.mean == pytest.approx(0.2)
    assert effect.high - effect.mean == pytest.approx(4.302653 * 0.1 / np.sqrt(3))
    assert effect.p == pytest.approx(0.25, abs=0.02)  # of 8 sign patterns, two reach the mean


def test_intervals_cover_and_p_values_are_uniform_under_no_effect():
    draws = np.random.default_rng(1).normal(0, 0.2, (30, 2_000))
    effects = paired_effects(draws, flips=999)
    assert np.mean([e.low <= 0 <= e.high for e in effects]) == pytest.approx(0.95, abs=0.02)
    assert np.mean([e.p <= 0.05 for e in effects]) == pytest.approx(0.05, abs=0.02)


def test_discoveries_are_benjamini_and_hochbergs():
    assert discoveries([0.01, 0.02, 0.04, 0.9]).tolist() == [True, True, False, False]
    assert discoveries([]).tolist() == []


def test_what_goes_with_the_answers_only_as_the_label_does_is_rarely_associated():
    labels = (np.arange(96) % 2).astype(np.float64)
    low, warm = (list(PROPERTIES).index(name) for name in ("subject_y", "warmth"))
    still = Doses(np.zeros((2, 96)), np.ones(96, bool), True, dict.fromkeys(PROPERTIES, 0.0))
    found = {"subject_y": 0, "warmth": 0, "subject_y, no label known": 0}
    for seed in range(100):
        chance = np.random.default_rng(seed)
        table = chance.normal(size=(96, len(PROPERTIES)))
        table[:, low] += 2 * labels
        before = 0.25 + 0.5 * labels + 0.02 * table[:, warm] + chance.normal(0, 0.02, 96)
        for name, known in (("subject_y", labels), ("warmth", labels), ("subject_y, no label known", None)):
            probe = Probed(name.partition(",")[0], still, before, before)
            found[name] += association(probe, before, table, None, [] if known is None else [known])[1] < 0.05
    assert found["subject_y"] <= 12 and found["warmth"] >= 95 and found["subject_y, no label known"] >= 95


def test_where_the_subject_is_goes_with_the_answers_beyond_a_mark_that_moves_what_is_measured_of_it():
    """Who carries a mark decides the answers, and its edges move what is measured of the subject; or the subject does."""
    across, warm = (list(PROPERTIES).index(name) for name in ("subject_x", "warmth"))
    doses = Doses(np.zeros((2, 96)), np.ones(96, bool), True, dict.fromkeys(PROPERTIES, 0.0))
    kinds: dict[str, set[str]] = {"mark": set(), "subject": set()}
    for seed in range(20):
        chance = np.random.default_rng(seed)
        mark, table = (chance.random(96) < 0.5).astype(float), chance.normal(size=(96, len(PROPERTIES)))
        table[:, across] += 3 * mark
        table[:, warm] += 3 * mark
        by_mark = 0.3 + 0.4 * mark + chance.normal(0, 0.02, 96)
        by_subject = 0.4 + 0.05 * table[:, across]
        for decides, before in (("mark", by_mark), ("subject", by_subject)):
            tried = [Probed(name, doses, before - 0.15, before + 0.15) for name in ("subject_x", "warmth")]
            found = {one.property: one.kind for one in findings(tried, before, table, marks=mark[:, None])}
            kinds[decides].add(found["subject_x"])
            assert found["warmth"] == "relies on"  # of the whole image: a mark excuses nothing
    assert kinds["subject"] == {"relies on"} and kinds["mark"] <= {"fragile", "relies on"} and "fragile" in kinds["mark"]


def test_of_many_fragile_properties_none_is_accused_of_an_association_by_chance():
    """Answers that every probe moves and that no property goes with: one audit in twenty may accuse one."""
    accused = 0
    for seed in range(100):
        chance = np.random.default_rng(seed)
        table, before = chance.normal(size=(96, len(PROPERTIES))), chance.uniform(0.2, 0.8, 96)
        doses = Doses(np.zeros((2, 96)), np.ones(96, bool), True, dict.fromkeys(PROPERTIES, 0.0))
        up, down = before + 0.15 + chance.normal(0, 0.02, 96), before - 0.15
        tried = [Probed(name, doses, down, up) for name in PROPERTIES]
        accused += any(one.kind == "relies on" for one in findings(tried, before, table))
    assert accused <= 9
