"""An oracle by words, calibrated on some of the audit's images and held against what the table says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cfx.attributes.calibration import TWO_GROUPS, Floats, Line, agreement, platt, split_in_two
from cfx.attributes.oracle import Oracle
from cfx.attributes.words import WordsOracleConfig, calibrated, scores_of
from tasks.data.ingest import DataConfig, annotated_sample

SAMPLED = 256  # of the audit's images: half to calibrate on, half to hold the words against
BATCH = 32
BY = {
    "annotations": "its annotations",
    "split": "a split of the scores in two",
    "settings": "the settings",
    "model": "the model's own scale",
}

Bits = NDArray[np.bool_]


class Worded(NamedTuple):
    """One attribute by words: how it was calibrated, and how it agrees with annotations that the calibration did not use."""

    attribute: str
    calibrated_by: str  # a key of BY
    slope: float
    intercept: float
    share: float  # of the sampled images that have it, by these words
    parted: float | None  # of a split: share of the scores' variance that lies between the halves
    balanced_accuracy: float | None  # None without annotations of both kinds
    low: float | None
    high: float | None
    n_with: int  # held-out images that are annotated with it, and without
    n_without: int

    def sentence(self) -> str:
        """For people."""
        how = f"{self.attribute} by words: {self.share:.0%} of the images, calibrated by {BY[self.calibrated_by]}"
        return f"{how}; {self.agrees()}" if self.balanced_accuracy is not None else f"{how}; nothing to hold it against"

    def agrees(self) -> str:
        """How well, in a few words. Only of an attribute with annotations."""
        return (
            f"balanced accuracy {self.balanced_accuracy:.2f} ({self.low:.2f}–{self.high:.2f}) on {self.n_with + self.n_without} "
            f"annotated images"
        )


def calibrate_words(
    config: WordsOracleConfig, oracle: Oracle, data: DataConfig, device: str
) -> tuple[WordsOracleConfig, tuple[Worded, ...]]:
    """The configuration with a slope and an offset for each attribute, which the oracle has from now on; and how they were found.

    On up to SAMPLED images, drawn alike in every label, the same every time. Where the table has a column of the attribute's
    name, one half of the annotated images calibrates and the other is held against it. Lines in the settings are kept.
    """
    (_, x), known = annotated_sample(data, SAMPLED)
    with torch.no_grad():
        scores = torch.cat([scores_of(oracle, part.to(device)).cpu() for part in x.split(BATCH)]).double().numpy()
    given = config.calibration or {}
    unknown: list[bool | None] = [None] * len(x)
    found = tuple(
        _worded(name, scores[:, column], known.get(name, unknown), given.get(name))
        for column, name in enumerate(oracle.attributes)
    )
    lines = {one.attribute: Line(slope=one.slope, offset=one.intercept) for one in found}
    calibrated(oracle, lines)
    return config.model_copy(update={"calibration": lines}), found


def _worded(name: str, scores: Floats, annotated: Sequence[bool | None], given: Line | None) -> Worded:
    places = np.array([place for place, value in enumerate(annotated) if value is not None], int)
    truth = np.array([annotated[place] for place in places], bool)
    fitted, held = _halves(truth)
    line, by, between = given, "settings", None
    if line is None:
        line, by = platt(scores[places[fitted]], truth[fitted]), "annotations"
    if line is None and (split := split_in_two(scores)) is not None:
        line, by, between = split.line, "split", split.between
    if line is None:
        line, by = Line(slope=1.0, offset=0.0), "model"
    said = line.slope * scores + line.offset > 0
    agrees = agreement(said[places[held]], truth[held])
    return Worded(name, by, line.slope, line.offset, float(said.mean()), between, *agrees)


def _halves(truth: Bits) -> tuple[Bits, Bits]:
    """Two halves of annotated images (n,), in turn among those with the attribute and among those without: they come by lot."""
    first = np.zeros(len(truth), bool)
    for side in (True, False):
        first[np.flatnonzero(truth == side)[::2]] = True
    return first, ~first


def words_warnings(found: Sequence[Worded]) -> tuple[str, ...]:
    """What to say of words that agree with annotations at chance, that nothing is held against, or that find no two groups."""
    at_chance = [one for one in found if one.low is not None and one.low <= 0.5]
    loose = [one for one in found if one.balanced_accuracy is None]
    shapeless = [one for one in found if one.parted is not None and one.parted < TWO_GROUPS]
    warnings = [
        f"oracle: the words of {one.attribute!r} agree with its annotations at chance: {one.agrees()}; what is said of it "
        "may mean something else: try other prompts or another model, or leave it out"
        for one in at_chance
    ]
    if loose:
        named = ", ".join(f"{one.attribute} ({one.share:.0%} of the images)" for one in loose)
        warnings.append(
            f"oracle: there was nothing to hold these words against, no yes/no column of that name: {named}; "
            "their thresholds cut the scores where they part best, which does not say what the words find: annotate some images"
        )
    if shapeless:
        named = ", ".join(one.attribute for one in shapeless)
        warnings.append(
            f"oracle: the scores of {named} do not part in two, so where the attribute begins is arbitrary; it may be in none "
            "of the images, or in all, or not be seen by the model"
        )
    return tuple(warnings)
