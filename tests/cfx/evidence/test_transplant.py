"""Transplants: the place that decides is found, names keep their places, and donors depend on nothing but ids and seed."""

import numpy as np
import pytest

from cfx.errors import UserError
from cfx.evidence.paired import Effect
from cfx.evidence.transplant import (
    Exchange,
    beyond_label,
    beyond_names,
    cells,
    cells_of,
    deciding,
    differences,
    exchange,
    framing,
    in_corner,
    place_effects,
    plan,
    queries,
    responses,
    things,
    transplanted,
    unnamed_places,
)
from cfx.portraits import draw, render

N = 32
IDS = [f"image-{i}" for i in range(N)]


def effect_of(found: Exchange | None) -> Effect:
    assert found is not None
    return found.effect


def test_corners_are_at_the_rim_and_off_the_middle():
    corners = [place for place in range(64) if in_corner(place, 8)]
    assert corners == [0, 1, 2, 5, 6, 7, 8, 15, 16, 23, 40, 47, 48, 55, 56, 57, 58, 61, 62, 63]


@pytest.fixture(scope="module")
def images():
    """Noise with a bright tag in the upper left and, independently, another in the lower right corner."""
    chance = np.random.default_rng(3)
    drawn = chance.integers(60, 120, (N, 32, 32, 3)).astype(np.uint8)
    drawn[::2, :4, :4] = 250
    drawn[: N // 2, -4:, -4:] = 250
    return drawn


def upper_left(x):
    return 1 / (1 + np.exp(-(x[:, :4, :4].mean((1, 2, 3)) - 170) / 20))


def lower_right(x):
    return 1 / (1 + np.exp(-(x[:, -4:, -4:].mean((1, 2, 3)) - 170) / 20))


def test_the_deciding_place_is_found_and_no_other(images):
    before = upper_left(images)
    who = plan(IDS, before > 0.5)
    effects = place_effects(responses(upper_left, images, who, cells((32, 32), 4)), before, who)
    assert deciding(effects).tolist() == [True] + [False] * 15
    assert effects[0].mean > 0.9 and effects[0].low > 0.9
    assert max(abs(effect.mean) for effect in effects[1:]) < 0.05


def test_an_attributes_places_are_read_from_the_same_transplants(images):
    both = lambda x: np.stack([upper_left(x), lower_right(x), np.full(len(x), 0.2)], axis=1)  # noqa: E731
    before = both(images)
    who = plan(IDS, before[:, 0] > 0.5)
    after = responses(both, images, who, cells((32, 32), 4))
    held = cells_of(after[..., 1:], before[:, 1:], who)
    assert np.flatnonzero(held[0]).tolist() == [15]
    assert not held[1].any()


def test_what_names_explain_is_taken_from_the_places(images):
    both = lambda x: np.stack([upper_left(x), lower_right(x)], axis=1)  # noqa: E731
    places = cells((32, 32), 4)

    def left_of(answer):
        before, named = answer(images), both(images)[:, 1:]
        who = plan(IDS, before > 0.5, each=2)
        after, named_after = responses(answer, images, who, places), responses(both, images, who, places)[..., 1:]
        left = beyond_names(after, before, named_after, named, who)
        return unnamed_places(place_effects(after, before, who), left, grid=4).tolist()

    assert left_of(upper_left) == [True] + [False] * 15
    assert left_of(lower_right) == [False] * 16


def test_the_edge_of_an_explained_cell_is_no_place_of_its_own():
    def effects(*means):
        return [Effect(mean, mean - 0.05, mean + 0.05, 1e-4, 48) for mean in means]

    whole, left = [0.0] * 16, [0.0] * 16
    whole[0], whole[1], left[1] = 0.8, 0.2, 0.15  # cell 0 is explained, its neighbour 1 is not
    whole[11], left[11] = 0.3, 0.3
    assert np.flatnonzero(unnamed_places(effects(*whole), effects(*left), grid=4)).tolist() == [11]
    assert np.flatnonzero(unnamed_places(effects(*whole), effects(*left), grid=None)).tolist() == [1, 11]


def test_foreground_against_background(images):
    segments = np.zeros((2, N, 32, 32))
    segments[0, :, :8, :8] = 1
    segments[1] = 1 - segments[0]
    before = upper_left(images)
    who = plan(IDS, before > 0.5)
    foreground, background = place_effects(responses(upper_left, images, who, segments), before, who)
    assert foreground.mean > 0.9
    assert background.mean == pytest.approx(0, abs=1e-6)


def test_a_segment_goes_beyond_the_label_by_its_content_and_not_by_its_shape():
    chance = np.random.default_rng(2)
    labels, tag = np.arange(96) % 2, np.arange(96) // 2 % 2
    pixels = chance.integers(90, 110, (96, 32, 32, 3)).astype(float)
    segments = np.zeros((2, 96, 32, 32))
    for i in range(96):
        segments[0, i, : 8 + 8 * tag[i]] = 1  # its shape goes with the answers, and nothing in it
    segments[1, :, 20:, 20:] = 1
    pixels[:, 20:, 20:] += 80 * tag[:, None, None, None]
    answers = 1 / (1 + np.exp(-(3 * labels + 3 * tag - 3 + chance.normal(0, 0.5, 96))))
    found = beyond_label(pixels.clip(0, 255).astype(np.uint8), labels.astype(float), answers, segments)
    assert found.tolist() == [False, True]


def test_only_what_both_segments_hold_is_pasted():
    images = np.stack([np.full((16, 16, 1), value, np.uint8) for value in (10, 200)])
    segments = np.zeros((2, 16, 16))
    segments[0, :8], segments[1, :, :8] = 1, 1
    pasted = transplanted(images, np.array([0]), np.array([1]), segments)[0, ..., 0]
    assert (pasted[:8, :8] == 200).all()
    assert (pasted[8:] == 10).all() and (pasted[:, 8:] == 10).all()


def test_donors_depend_on_ids_and_seed_only():
    positive = np.arange(N) % 3 == 0
    order = np.random.default_rng(0).permutation(N)
    who, turned = plan(IDS, positive, each=2), plan([IDS[i] for i in order], positive[order], each=2)
    lends = lambda ids, p: {ids[r]: [ids[d] for d in row] for r, row in zip(p.receivers, p.donors, strict=True)}  # noqa: E731
    assert lends(IDS, who) == lends([IDS[i] for i in order], turned)
    assert lends(IDS, who) != lends(IDS, plan(IDS, positive, seed=1, each=2))
    assert (positive[who.donors[:, :2]] != positive[who.receivers, None]).all()
    assert (positive[who.donors[:, 2:]] == positive[who.receivers, None]).all()
    assert (who.donors != who.receivers[:, None]).all()


def test_receivers_are_of_both_classes_and_as_many_as_allowed():
    positive = np.arange(100) < 10
    who = plan([str(i) for i in range(100)], positive, most=30)
    assert len(who.receivers) == 30
    assert positive[who.receivers].sum() == 10


def test_where_a_donor_is_missing_nothing_is_claimed(images):
    positive = np.arange(N) == 0
    before = positive * 0.9
    who = plan(IDS, positive)
    after = responses(upper_left, images, who, cells((32, 32), 2))
    first = who.receivers.tolist().index(0)
    assert np.isnan(differences(after, before, who)[first]).all()
    with pytest.raises(UserError, match="one class"):
        place_effects(after, np.zeros(N), who)


def test_cells_cover_the_image_and_fade():
    weights = cells((24, 36), 4)
    assert weights.shape == (16, 24, 36)
    assert weights.min() == 0 and weights.max() == 1
    assert (weights.max(0) == 1).all()
    assert weights[5, 9, 13] == 1 and 0 < weights[5, 3, 13] < 1


def test_queries_are_what_is_asked(images):
    asked = []

    def answer(x):
        asked.append(len(x))
        return upper_left(x)

    responses(answer, images, plan(IDS, upper_left(images) > 0.5, most=20), cells((32, 32), 4))
    assert sum(asked) == queries(N, 16, most=20) == 20 * 16 * 2


def test_framing_tells_portraits_from_scattered_things():
    portraits = np.stack([render(portrait) for _, portrait in draw(10, seed=1)])
    scattered = np.full((10, 64, 64, 3), 90, np.uint8)
    for i, image in enumerate(scattered):
        image[(i * 23) % 48 :][:16, (i * 37) % 48 :][:, :16] = 200
    assert framing(portraits) > 0.4 > 0.2 > framing(scattered)
    assert framing(np.repeat(portraits[:1], 3, axis=0)) == pytest.approx(1)
    assert framing(np.zeros((3, 32, 32, 3), np.uint8)) == 0


def test_a_place_goes_beyond_the_label_only_where_its_content_moves_the_answers_by_itself():
    """The label shows top left; a tag without regard to it sits bottom right, and the answers follow both."""
    chance = np.random.default_rng(0)
    labels, tag = np.arange(96) % 2, np.arange(96) // 2 % 2
    pixels = chance.integers(90, 110, (96, 32, 32, 3)).astype(float)
    pixels[:, :8, :8] += (60 * labels + chance.normal(0, 20, 96))[:, None, None, None]
    pixels[:, 24:, 24:] += 80 * tag[:, None, None, None]
    answers = 1 / (1 + np.exp(-(3 * labels + 3 * tag - 3 + chance.normal(0, 0.5, 96))))
    found = beyond_label(pixels.clip(0, 255).astype(np.uint8), labels.astype(float), answers, cells((32, 32), 4))
    assert np.flatnonzero(found).tolist() == [10, 11, 14, 15]
    one_label = beyond_label(pixels.astype(np.uint8), np.ones(96), answers, cells((32, 32), 4))
    assert not one_label.any()


def test_an_exchange_undoes_what_a_place_is_diluted_by():
    """The answer follows a brightness everywhere by .5 and a tag by .3, which a part of either predicted class has."""
    chance = np.random.default_rng(5)
    tag, bright = np.arange(96) % 3 == 0, np.arange(96) // 3 % 2 == 0
    pixels = (chance.integers(20, 40, (96, 32, 32, 3)) + 120 * bright[:, None, None, None]).astype(np.uint8)
    pixels[tag, 26:, 26:] = 255

    def answer(x):
        return 0.1 + 0.5 * (x[:, 8:16, 8:16].mean((1, 2, 3)) > 90) + 0.3 * (x[:, 28:, 28:].min((1, 2, 3)) > 200)

    ids, before = [str(i) for i in range(96)], answer(pixels)
    who = plan(ids, before > 0.5)
    corner = cells((32, 32), 4)[15]
    (place,) = place_effects(responses(answer, pixels, who, corner[None]), before, who)
    whole = effect_of(exchange(answer, pixels, ids, who, corner))
    assert place.mean < 0.15
    assert whole is not None and whole.mean == pytest.approx(0.3, abs=0.01) and whole.low <= 0.3 <= whole.high
    assert whole.n == 40
    turned = effect_of(exchange(lambda x: 1 - answer(x), pixels, ids, who, corner))
    assert turned is not None and turned.mean == pytest.approx(0.3, abs=0.01)


def test_where_all_donors_are_alike_nothing_is_exchanged(images):
    flat = np.full((N, 32, 32, 3), 80, np.uint8)
    flat[::2, :8, :8] = 200
    who = plan(IDS, upper_left(flat) > 0.5)
    assert exchange(upper_left, flat, IDS, who, cells((32, 32), 4)[15]) is None
    one = np.where(np.arange(N) == 3, 250, 80)[:, None, None, None] * np.ones((1, 32, 32, 3))
    assert exchange(lower_right, one.astype(np.uint8), IDS, who, cells((32, 32), 4)[15]) is None


def test_cells_that_touch_are_one_thing():
    decide = np.zeros(16, np.bool_)
    decide[[0, 5, 11, 15]] = True  # a corner and what touches it at a corner; two at the other end
    effects = [Effect(0.1 + 0.05 * place, 0, 1, 1e-4, 48) for place in range(16)]
    assert [places.tolist() for places in things(decide, effects, grid=4)] == [[11, 15], [0, 5]]
