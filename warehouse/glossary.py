"""What each measure of the scorecard is called, says, and which way is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from warehouse.evidence import Row


@dataclass(frozen=True)
class Measure:
    """`share` measures are shown in percent."""

    label: str
    meaning: str
    better: Literal["higher", "lower", "–"] = "–"
    share: bool = False


MEASURES = {  # in the order of the scorecard
    "fr": Measure("Flip rate", "Explanations after which the classifier gives the class asked for.", "higher", True),
    "fr_8bit": Measure("Flip rate of the files", "The same after the picture was rounded to an 8-bit PNG.", "higher", True),
    "judge_fr": Measure(
        "Judge's flip rate",
        "A second classifier, never used for guidance, agrees with the flip. Far below the flip rate, suspect adversarial noise.",
        "higher",
        True,
    ),
    "fr_null": Measure("Flip rate of the null", "Flips without guidance: what noise and the prior do alone.", "lower", True),
    "mnac": Measure(
        "Attributes changed (MNAC)", "Mean number of oracle attributes that cross one half, label included.", "lower"
    ),
    "cd": Measure(
        "Correlation difference (CD)",
        "How far the changes' correlations with the label are from the data's own, summed over attributes. "
        "It has a noise floor that falls with n: compare runs of equal n only.",
        "lower",
    ),
    "l1": Measure("Size of the change (L1)", "Mean absolute change of a pixel, on a scale from 0 to 1.", "lower"),
    "l2": Measure("Size of the change (L2)", "Euclidean length of the change, on a scale from 0 to 1 per pixel.", "lower"),
    "linf": Measure("Largest change of a pixel", "On a scale from 0 to 1.", "lower"),
    "mask_fraction": Measure("Share of pixels allowed to change", "Size of the mask.", "lower", True),
    "seconds": Measure("Seconds per explanation", "Its share of the batch, retries included.", "lower"),
    "nfe_forward": Measure("Denoiser evaluations", "Passes through the generative model per explanation.", "lower"),
    "nfe_backward": Measure("Denoiser gradients", "Passes per explanation that were also differentiated through.", "lower"),
}


def measure(metric: str) -> Measure:
    """The entry for a metric; one that the glossary does not know is shown by its own name."""
    return MEASURES.get(metric) or Measure(metric, "")


def in_order(rows: Sequence[Row]) -> list[tuple[Row, Measure]]:
    """The scorecard's rows with their entries, in the glossary's order; metrics that it does not know come last."""
    places = list(MEASURES)
    return sorted(
        ((row, measure(row["metric"])) for row in rows),
        key=lambda pair: places.index(pair[0]["metric"]) if pair[0]["metric"] in MEASURES else len(places),
    )
