"""Before any network is trained: which annotated attributes go with the label, so that a classifier could learn them instead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.data.annotations import FIXED

STRONG, FEW = 0.3, 20  # |phi| that is worth a sentence, of at least so many images
SAME = 0.95  # |phi| of an attribute that may be the label itself, as in the view `gate`


@dataclass(frozen=True)
class Association:
    """How one annotated attribute goes with one label, over the images where both are known."""

    label: str
    attribute: str
    phi: float  # Pearson's correlation of the two bits, -1 to 1; 0 where one of them is constant
    lift: float  # P(attribute | label) / P(attribute); NaN where no image has the attribute
    n: int  # images

    def sentence(self) -> str:
        """In words, for a person: 'the label “coat” goes with “tag”: r = .80, 1.8 times as often, 128 images'."""
        way = "goes with" if self.phi > 0 else "goes without"
        often = "" if math.isnan(self.lift) else f", {self.lift:.1f} times as often"
        return f"the label “{self.label}” {way} “{self.attribute}”: r = {self.phi:.2f}{often} as in all, {self.n:,} images"


def associations_of(rows: pa.Table) -> list[Association]:
    """Every label against every attribute of a listing (`tasks.data.annotations.listing`), the strongest |phi| first.

    Of two labels only the one that an attribute goes with, because the other is its mirror. Nothing without labels or attributes.
    For `cfx check`, which prints those of `striking` first.
    """
    labels = np.array([label or "" for label in rows["label"].to_pylist()])
    known = sorted(set(labels) - {""})
    found = []
    for name in rows.column_names[FIXED:]:
        answers = np.array([math.nan if bit is None else bit for bit in rows[name].to_pylist()], float)
        kept = ~np.isnan(answers) & (labels != "")
        of_labels = [_association(label, name.removeprefix("a_"), labels[kept] == label, answers[kept] == 1) for label in known]
        found += [max(of_labels, key=lambda one: one.phi)] if len(known) == 2 else of_labels
    return sorted(found, key=lambda one: (-abs(one.phi), one.attribute, one.label))


def striking(associations: list[Association], target_attribute: str | None = None) -> list[Association]:
    """Those that a classifier may well have learned instead of the label; `target_attribute` is the label itself."""
    return [one for one in associations if abs(one.phi) >= STRONG and one.n >= FEW and one.attribute != target_attribute]


def label_warnings(associations: list[Association], known: Sequence[str]) -> tuple[str, ...]:
    """Of an audit without `target_attribute`: attributes that the oracle knows and that may be the label itself."""
    same = {one.attribute: one for one in associations if abs(one.phi) >= SAME and one.n >= FEW and one.attribute in known}
    return tuple(
        f"“{name}” says the same as the label “{one.label}” (r = {one.phi:.2f}, {one.n:,} images): if it is the label itself, "
        f"set `target_attribute: {name}`; until then it is ranked, and counts against the classifier"
        for name, one in same.items()
    )


def _association(label: str, attribute: str, labelled: NDArray[np.bool_], has: NDArray[np.bool_]) -> Association:
    n = len(has)
    both, a, b = int((labelled & has).sum()), int(labelled.sum()), int(has.sum())
    spread = math.sqrt(a * (n - a) * b * (n - b))
    lift = both * n / (a * b) if a and b else math.nan
    return Association(label, attribute, (n * both - a * b) / spread if spread else 0.0, lift, n)
