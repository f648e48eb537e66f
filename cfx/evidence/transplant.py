"""Region transplant: which places of an image decide the answer. Needs no model of images and no names; works on black boxes.

A place is pasted from a donor that is predicted the other class, and from a donor of the same class. The first also carries what
any foreign content does; the second is that alone. Their difference is what the place tells the classifier of the class. It is
diluted: of two images that are answered differently, not every pair differs in what decides there; `exchange` undoes that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label, maximum_filter
from scipy.special import logit
from scipy.stats import pearsonr
from skimage.filters import gaussian, threshold_otsu
from skimage.transform import resize
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict

from cfx.errors import UserError
from cfx.evidence.paired import Answer, Effect, Floats, Images, discoveries, paired_effects

GRID = 8
DONORS = 1  # of each kind, an image
RECEIVERS = 48  # images that are pasted into; the others only lend
HOLDS = 0.1  # of P: a place that decides less is not worth a word
BEYOND = 0.5  # of a place's effect: with this much left when names are taken away, it is an unnamed place
PATCH, FOLDS = 4, 8  # pixels of a side that a place is looked at with, and parts that are predicted from the others
UNLIKELY = 1e-4  # p-value of a place that goes beyond the label: ridge does not see all that tells the label there
TELLING, LENT = 8, 3  # receivers that tell which donors carry what decides, and donors of either kind for each of the others
PART = 0.25  # of the strongest place's effect: a place with less is none of an attribute's


class Plan(NamedTuple):
    """Which images are pasted into, (R,) indices, and their donors, (R, 2 * each): of the other predicted class, then of the
    same; -1 where there is none."""

    receivers: NDArray[np.int64]
    donors: NDArray[np.int64]


def queries(n: int, places: int = GRID * GRID, donors: int = DONORS, most: int = RECEIVERS) -> int:
    """How many images a classifier answers for a map over `places` of n audited images.

    Examples:
        >>> queries(96), queries(96, places=16)
        (6144, 1536)
    """
    return min(n, most) * places * 2 * donors


def cells(size: tuple[int, int], grid: int = GRID) -> Floats:
    """The places of a grid x grid map, row by row: (grid^2, H, W) weights in [0, 1].

    1 in the cell and a quarter of a cell around it, down to 0 at three quarters; 1 up to the border for cells that lie at it.
    """
    rows, columns = (np.stack([_ramp(side, grid, i) for i in range(grid)]) for side in size)
    return (rows[:, None, :, None] * columns[None, :, None, :]).reshape(grid * grid, *size)


def _ramp(side: int, grid: int, index: int) -> Floats:
    at = (np.arange(side) + 0.5) * grid / side  # in cells
    before = 1.0 if index == 0 else np.clip((at - index + 0.75) / 0.5, 0, 1)
    after = 1.0 if index == grid - 1 else np.clip((index + 1.75 - at) / 0.5, 0, 1)
    weights: Floats = np.minimum(before, after) * np.ones(side)
    return weights


def plan(ids: Sequence[str], positive: NDArray[np.bool_], seed: int = 0, each: int = DONORS, most: int = RECEIVERS) -> Plan:
    """Who is pasted into whom. positive: (N,), whether an image is predicted the class.

    Both are drawn by a hash of the images' ids and the seed, so neither order nor shards matter, and an image that joins changes
    little. Half of the receivers are of either predicted class, as far as there are so many.
    """
    drawn = sorted(range(len(ids)), key=lambda i: _lot(ids[i], "", seed))
    halves = [i for side in (True, False) for i in [j for j in drawn if positive[j] == side][: most // 2]]
    receivers = sorted((halves + [i for i in drawn if i not in set(halves)])[:most])
    return Plan(np.array(receivers, np.int64), np.stack([_donors(i, ids, positive, seed, each) for i in receivers]))


def _donors(receiver: int, ids: Sequence[str], positive: NDArray[np.bool_], seed: int, each: int) -> NDArray[np.int64]:
    ranked = sorted((j for j in range(len(ids)) if j != receiver), key=lambda j: _lot(ids[receiver], ids[j], seed))
    chosen = np.full(2 * each, -1)
    for kind, wanted in enumerate((not positive[receiver], positive[receiver])):
        fitting = [j for j in ranked if positive[j] == wanted][:each]
        chosen[kind * each : kind * each + len(fitting)] = fitting
    return chosen


def _lot(receiver: str, donor: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\x1f{receiver}\x1f{donor}".encode(), digest_size=8).digest()


def transplanted(images: Images, receivers: NDArray[np.int64], donors: NDArray[np.int64], place: Floats) -> Images:
    """The receivers (R, H, W, C) with one place of their donors, (R,) indices both, pasted over them.

    place: weights (H, W); or the segments of all images, (N, H, W) of 0 and 1: then the pixels count that lie in the segment of
    both, so that of a donor's background its subject does not come along.
    """
    weight = (place if place.ndim == 2 else place[receivers] * place[donors])[..., None]
    own = images[receivers].astype(np.float32)
    return (own + weight * (images[donors] - own) + 0.5).astype(np.uint8)


def responses(answer: Answer, images: Images, who: Plan, places: Floats) -> Floats:
    """Answers to every transplant: (places, R, D), or (places, R, D, K) where `answer` gives K probabilities; NaN: no donor.

    places: (M, H, W) weights, as `cells` has them, or (M, N, H, W) segments.
    """
    return np.stack(
        [np.stack([_answers(answer, images, who, column, place) for column in who.donors.T], axis=1) for place in places]
    )


def _answers(answer: Answer, images: Images, who: Plan, donors: NDArray[np.int64], place: Floats) -> Floats:
    answers = np.asarray(answer(transplanted(images, who.receivers, np.maximum(donors, 0), place)), np.float64)
    answers[donors < 0] = np.nan
    return answers


def differences(after: Floats, before: Floats, who: Plan) -> Floats:
    """Of each place and image, what the other class's donors did more than those of the same class, signed towards the donor's
    class: (R, places), ready for `paired_effects`; NaN for an image that lacks either kind.

    after: (places, R, D) as `responses` gives them; before: P(class) (N,). The kinds of donor are read from `before` > 0.5, so
    the same transplants can be read for any other probability of the same images, an oracle's attribute for one.
    """
    own, lent = before[who.receivers] > 0.5, before[who.donors] > 0.5
    other, same = ((lent != own[:, None]) == differs for differs in (True, False))
    there = who.donors >= 0
    towards = np.where(own, -1.0, 1.0)  # the other class's direction
    return ((_mean_where(after, other & there) - _mean_where(after, same & there)) * towards).T


def _mean_where(after: Floats, kept: NDArray[np.bool_]) -> Floats:
    count = kept.sum(1)
    total = np.where(kept, after, 0.0).sum(2)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def place_effects(after: Floats, before: Floats, who: Plan) -> list[Effect]:
    """The effect of each place, an Effect over images. Raises UserError if all images are predicted one class."""
    if len({bool(p > 0.5) for p in before}) < 2:
        raise UserError("all audited images are predicted one class, so none can lend the other's; audit images of both")
    return paired_effects(differences(after, before, who))


def deciding(effects: Sequence[Effect], others: Sequence[float] = ()) -> NDArray[np.bool_]:
    """Which places decide: towards the donor's class, by HOLDS or more, and not by chance (Benjamini-Hochberg, with `others`)."""
    stands = discoveries([effect.p for effect in effects] + list(others))[: len(effects)]
    return stands & np.array([effect.mean >= HOLDS for effect in effects], np.bool_)


def cells_of(after: Floats, before: Floats, who: Plan) -> NDArray[np.bool_]:
    """Which places are those of each named attribute, by the oracle's own map: (A, places).

    after: (places, R, D, A), the oracle's probabilities of the transplants; before: (N, A). A place is an attribute's if it
    decides it, and by PART of the strongest place or more. An attribute that all images have, or none, has no place.
    """
    held = np.zeros((before.shape[1], len(after)), np.bool_)
    for a in range(before.shape[1]):
        if len({bool(p > 0.5) for p in before[:, a]}) == 2:
            effects = paired_effects(differences(after[..., a], before[:, a], who))
            strongest = max(effect.mean for effect in effects)
            held[a] = deciding(effects) & np.array([effect.mean >= PART * strongest for effect in effects])
    return held


def beyond_names(after: Floats, before: Floats, named_after: Floats, named_before: Floats, who: Plan) -> list[Effect]:
    """The effect of each place that is left when what the named attributes explain of it is taken away.

    A transplant changes the attributes too, as the oracle sees them: the classifier's changes are regressed on the oracle's over
    all places, images and donors (least squares, no intercept). What remains is judged like the whole.
    after: (places, R, D) and before: (N,), the classifier's; named_after: (places, R, D, A), named_before: (N, A), the oracle's.
    """
    change = after - before[who.receivers][:, None]
    named = named_after - named_before[who.receivers][:, None, :]
    there = np.isfinite(change)
    slopes = np.linalg.lstsq(named[there], change[there], rcond=None)[0]
    return paired_effects(differences(change - named @ slopes, before, who))


def unnamed_places(
    effects: Sequence[Effect], left: Sequence[Effect], others: Sequence[float] = (), grid: int | None = GRID
) -> NDArray[np.bool_]:
    """Which places decide for a reason that has no name: what is left of them, as `beyond_names` has it, decides too, and is
    BEYOND of the whole or more (names that work together, not one beside the other, leave less).

    Cells of a grid overlap: one that touches a stronger cell which names do explain shows that cell's edge, and is no place of
    its own. grid: None for segments.
    """
    whole, kept = (np.array([effect.mean for effect in some]) for some in (effects, left))
    decides = deciding(effects, others)
    lasting = deciding(left, others) & (kept >= BEYOND * whole)
    unnamed: NDArray[np.bool_] = decides & lasting
    if grid is not None:
        explained = np.where(decides & ~lasting, whole, 0.0).reshape(grid, grid)
        unnamed &= whole > maximum_filter(explained, 3, mode="constant").ravel()
    return unnamed


def beyond_label(images: Images, labels: Floats, answers: Floats, places: Floats) -> NDArray[np.bool_]:
    """In which places the content goes with the answers, more than the label and what tells the label there account for:
    (places,). images: (N, H, W, C) uint8; labels (N,) of 0 and 1; answers: P(class) (N,); places: weights, as `responses` takes
    them, or segments.

    A place's pixels at PATCH x PATCH predict the log-odds, and the label, by ridge regression out of fold. Partial correlation of
    the first with the log-odds, given the second and the label, with a one-sided p below UNLIKELY. Where garments differ, say, a
    classifier of garments may well look, and there is no more to it; a tag goes with its answers, whatever the garment.
    Nowhere with fewer than FOLDS images of either label.
    """
    if min(labels.sum(), (1 - labels).sum()) < FOLDS or np.ptp(answers) == 0:
        return np.zeros(len(places), np.bool_)
    log_odds = logit(answers.clip(1e-3, 1 - 1e-3))
    return np.array([_goes_beyond(_patches(images, place), labels, log_odds) for place in places], np.bool_)


def _patches(images: Images, place: Floats) -> Floats:
    """What is in a place where its weight is above a half, standardised: (N, C PATCH^2 + 1), pixels and their spread.

    Of a segment (N, H, W) the pixels in it alone; where none is, in a patch, their mean: what shape it has is not content.
    """
    if place.ndim == 3:
        return _standard(_segment_patches(images / 255, place[..., None]))
    rows, columns = (np.flatnonzero(place.max(axis) > 0.5) for axis in (1, 0))
    cut = images[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] / 255
    small = resize(cut, (len(images), PATCH, PATCH, cut.shape[3]), anti_aliasing=True).reshape(len(images), -1)
    return _standard(small)


def _segment_patches(pixels: Floats, segment: Floats) -> Floats:
    shape = (len(pixels), PATCH, PATCH)
    there = resize(segment, (*shape, 1), anti_aliasing=True)
    held = resize(pixels * segment, (*shape, pixels.shape[3]), anti_aliasing=True)
    means = (pixels * segment).sum((1, 2)) / np.maximum(segment.sum((1, 2)), 1)
    patches: Floats = np.where(there > 0.05, held / np.maximum(there, 0.05), means[:, None, None]).reshape(len(pixels), -1)
    return patches


def _standard(small: Floats) -> Floats:
    values = np.column_stack([small, small.std(1)])
    standard: Floats = (values - values.mean(0)) / (values.std(0) + 1e-6)
    return standard


def _goes_beyond(values: Floats, labels: Floats, log_odds: Floats) -> bool:
    known = np.column_stack([np.ones(len(labels)), labels, _predicted(values, labels)])
    left = [column - known @ np.linalg.lstsq(known, column, rcond=None)[0] for column in (_predicted(values, log_odds), log_odds)]
    if min(np.ptp(column) for column in left) < 1e-9:
        return False
    return bool(pearsonr(*left, alternative="greater").pvalue < UNLIKELY)


def _predicted(values: Floats, wanted: Floats) -> Floats:
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    guessed: Floats = cross_val_predict(RidgeCV(np.logspace(0, 4, 9)), values, wanted, cv=folds)
    return guessed


def things(decide: NDArray[np.bool_], effects: Sequence[Effect], grid: int = GRID) -> list[NDArray[np.int64]]:
    """Deciding places of a grid that touch each other, as one thing each, the strongest first: their numbers."""
    parts, n = label(decide.reshape(grid, grid), np.ones((3, 3)))
    found = [np.flatnonzero(parts.ravel() == part + 1) for part in range(n)]
    return sorted(found, key=lambda places: -max(effects[place].mean for place in places))


class Exchange(NamedTuple):
    """How much what decides in a place decides, and which images carry it, (N,)."""

    effect: Effect
    carries: NDArray[np.bool_]


def exchange(answer: Answer, images: Images, ids: Sequence[str], who: Plan, place: Floats) -> Exchange | None:
    """How much what decides in a place decides: the answers with it less those without it. None where donors are of one kind.

    Every image lends its place to TELLING receivers, half of either predicted class; how far that moves P(class), on average, is
    split in two by Otsu's threshold (1979): donors that carry what decides there, and donors that do not. The other receivers
    borrow from LENT of either, so the effect is measured where nothing was chosen by it. place: weights (H, W), or a segment
    (N, H, W).

    Examples:
        >>> tag = np.zeros((40, 8, 8, 1), np.uint8)
        >>> tag[::4, :2, :2] = 255  # one image in four carries it
        >>> ids, place = [str(i) for i in range(40)], cells((8, 8), 4)[0]
        >>> answer = lambda x: 0.2 + 0.5 * (x[:, 0, 0, 0] > 127)
        >>> who = plan(ids, answer(tag) > 0.5)
        >>> found = exchange(answer, tag, ids, who, place)
        >>> round(found.effect.mean, 2), int(found.carries.sum())
        (0.5, 10)
    """
    n, before = len(images), answer(images)
    sides = [[r for r in who.receivers if (before[r] > 0.5) == side] for side in (True, False)]
    telling = [r for side in sides for r in side[: TELLING // 2]]
    measured = np.array([r for side in sides for r in side[TELLING // 2 :]], np.int64)
    every = np.arange(n)
    moved = np.mean([answer(transplanted(images, np.full(n, r), every, place)) - before[r] for r in telling], axis=0)
    carries = moved > (threshold_otsu(moved) if np.ptp(moved) > 0 else np.inf)
    if len(measured) < 2 or min(carries.sum(), (~carries).sum()) <= LENT:
        return None
    lent = Plan(measured, np.stack([_donors(r, ids, carries, 0, LENT) for r in measured]))
    (effect,) = paired_effects(differences(responses(answer, images, lent, place[None]), carries.astype(float), lent))
    return Exchange(effect, carries)


def in_corner(place: int, grid: int) -> bool:
    """Whether a cell lies at the rim, in a corner of nine parts of the image: where subjects seldom are."""
    row, column = divmod(place, grid)
    at_rim = {row, column} & {0, grid - 1}
    return bool(at_rim) and not any(grid / 3 <= each + 0.5 <= 2 * grid / 3 for each in (row, column))


def framing(images: Images, side: int = 24) -> float:
    """How alike the images are framed, 0 to 1: the mean correlation of each one's edges, blurred, with those of all others.

    About 0.8 for centred heads of one size; near 0 for scenes. A map over cells is that much sharper or more blurred.
    """
    if len(images) < 2:
        return 1.0
    edges = np.stack([_edges(image, side) for image in images])
    norms = np.linalg.norm(edges, axis=1, keepdims=True)
    unit = edges / np.maximum(norms, 1e-9)
    n = len(unit)
    return float(max(0.0, (np.linalg.norm(unit.sum(0)) ** 2 - (norms > 1e-9).sum()) / (n * (n - 1))))


def _edges(image: NDArray[np.uint8], side: int) -> Floats:
    rows, columns = np.gradient(gaussian(resize(image.mean(2) / 255, (side, side), anti_aliasing=True), 1))
    strength = gaussian(np.hypot(rows, columns), 1).ravel()
    return strength - strength.mean()
