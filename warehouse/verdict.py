"""The verdict in plain words, from the statuses of `ranked_attributes` and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from warehouse.evidence import Row
from warehouse.wording import listed, signed


@dataclass(frozen=True)
class Verdict:
    """One line for the reader in a hurry, and the sentences that carry it."""

    kind: Literal["finding", "clear", "inconclusive"]
    headline: str
    sentences: tuple[str, ...]


def verdict(run: Row, ranked: Sequence[Row]) -> Verdict:
    """run: a row of the view runs; ranked: its rows of ranked_attributes, strongest first."""
    subject, n = f"The {classifier_name(run)}", max((row["n"] for row in ranked), default=0)
    above = [row for row in ranked if row["status"] == "above null"]
    unsure = [row for row in ranked if row["status"] == "inconclusive"]
    if above:
        names = listed([row["attribute"] for row in above])
        sentences = (*(effect_sentence(run, row) for row in above[:3]), NOT_YET_CAUSAL, *_unsure_sentence(unsure, ranked))
        return Verdict("finding", f"{subject} leans on {names}", sentences)
    if not ranked:
        return Verdict("inconclusive", f"No verdict yet on the {classifier_name(run)}", (NOTHING_TO_COMPARE,))
    if len(unsure) == len(ranked):
        headline = f"Inconclusive: {n} image{'' if n == 1 else 's'} cannot tell what the {classifier_name(run)} leans on"
        return Verdict("inconclusive", headline, (*_unsure_sentence(unsure, ranked),))
    clear = listed([row["attribute"] for row in ranked if row["status"] == "clear"])
    moved = f"Over {n} images, guidance moved {clear} by less than the margin of {run['margin']:g} in probability."
    headline = f"No attribute stands above the null for the {classifier_name(run)}"
    return Verdict("clear", headline, (moved, *_unsure_sentence(unsure, ranked)))


NOT_YET_CAUSAL = (
    "This is an association: it says what changes together with the classifier's answer. "
    "Whether the classifier reacts to that attribute alone takes an edit of that attribute alone."
)
NOTHING_TO_COMPARE = "There is no image yet that has both a guided explanation and its null, so there is nothing to compare."


def classifier_name(run: Row) -> str:
    """'smile classifier “planted”', or the classes when the label is none of the oracle's attributes."""
    if run["target_attribute"]:
        return f"{run['target_attribute']} classifier “{run['name']}”"
    classes = run["classes"]
    return f"classifier “{run['name']}” of {listed(classes) if len(classes) < 5 else f'{len(classes)} classes'}"


def effect_sentence(run: Row, row: Row) -> str:
    """The effect of one attribute in plain words, with its interval and n."""
    way = "more" if row["effect"] > 0 else "less"
    interval = f"95% interval {signed(row['low'])} to {signed(row['high'])}, {row['n']} images"
    small = " It is smaller than the margin." if -run["margin"] < row["low"] and row["high"] < run["margin"] else ""
    return (
        f"Moving the answer from {row['source']} to {row['target']} makes “{row['attribute']}” {way} likely: "
        f"{signed(row['effect'])} in probability beyond the null ({interval}).{small}"
    )


def _unsure_sentence(unsure: Sequence[Row], ranked: Sequence[Row]) -> tuple[str, ...]:
    """How many images would decide what these could not, or nothing when all is decided."""
    if not unsure:
        return ()
    names = listed([row["attribute"] for row in unsure]) if len(unsure) < 4 else f"{len(unsure)} of {len(ranked)} attributes"
    needed = max(row["images_needed"] for row in unsure)
    return (f"Undecided: {names}. About {needed:,} images would decide, if effects and their spread stay as they are.",)
