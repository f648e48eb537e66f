"""The verdict in plain words, from the view `verdicts` and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from warehouse.lens.fetch import Row
from warehouse.report.formatting import listed, points


@dataclass(frozen=True)
class Verdict:
    """One line for the reader in a hurry, and the sentences that carry it."""

    kind: Literal["finding", "clear", "inconclusive"]
    headline: str
    sentences: tuple[str, ...]


def verdict(run: Row, ranked: Sequence[Row], outside: Sequence[Row] = ()) -> Verdict:
    """run: a row of the view runs; ranked: its rows of verdicts, strongest first; outside: its rows of the view outside."""
    refused = next((row["rests_on"] for row in ranked if row["rests_on"].startswith("refused")), None)
    if refused:  # a failed canary refuses every finding
        return Verdict("inconclusive", f"No verdict on the {classifier_name(run)}", (f"{refused.capitalize()}.",))
    said = _of_attributes(run, ranked)
    beyond = tuple(_outside_sentence(row) for row in outside if row["finding"] == SOMETHING)
    if not beyond:
        return said
    headline = (
        said.headline if said.kind == "finding" else f"The {classifier_name(run)} leans on something that no attribute names"
    )
    return Verdict("finding", headline, (*said.sentences, *beyond) if said.kind == "finding" else (*beyond, *said.sentences))


def _of_attributes(run: Row, ranked: Sequence[Row]) -> Verdict:
    subject, n = f"The {classifier_name(run)}", max((row["n"] for row in ranked), default=0)
    by_verdict: dict[str, list[Row]] = {}
    for row in ranked:
        by_verdict.setdefault(row["verdict"], []).append(row)
    confirmed, suspected = by_verdict.get("confirmed", []), by_verdict.get("suspected", [])
    unsure = by_verdict.get("inconclusive", [])
    if confirmed or suspected:
        leans = f"{subject} leans on {_names(confirmed)}"
        headline = leans if confirmed else f"{subject} may lean on {_names(suspected)}"
        strongest = (*confirmed[:3], *suspected[:3])
        sentences = tuple(sentence for row in strongest for sentence in (effect_sentence(run, row), edit_sentence(row)))
        also = (f"Suspected, not confirmed: {_names(suspected)}.",) if confirmed and suspected else ()
        return Verdict("finding", headline, (*sentences, *also, *_unsure_sentence(unsure, ranked)))
    if not ranked:
        return Verdict("inconclusive", f"No verdict yet on the {classifier_name(run)}", (NOTHING_TO_COMPARE,))
    if len(unsure) == len(ranked):
        headline = f"Inconclusive: too few images ({n}) to say what the {classifier_name(run)} leans on"
        return Verdict("inconclusive", headline, (*_unsure_sentence(unsure, ranked),))
    moved = f"Over {n} images, guidance moved {_names(by_verdict['clear'])} by less than the margin of {run['margin']:g}."
    headline = f"Nothing found that the {classifier_name(run)} leans on"
    return Verdict("clear", headline, (moved, *_unsure_sentence(unsure, ranked)))


SOMETHING = "something outside your attributes"
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
    interval = f"95% interval {points(row['low'])} to {points(row['high'])}, {row['n']} images"
    small = " This is inside the margin." if -run["margin"] < row["low"] and row["high"] < run["margin"] else ""
    return (
        f"When images are changed until the model says “{row['target']}”, “{row['attribute']}” becomes {way} likely: "
        f"{points(row['effect'])} points over an unguided control ({interval}).{small}"
    )


def edit_sentence(row: Row) -> str:
    """What an edit of the attribute alone does to the classifier, or why that is not known."""
    if row["intervention_low"] is None:
        return (
            f"This is an association: whether the classifier reacts to “{row['attribute']}” alone takes edits of that attribute "
            f"alone, and {row['n_interventions'] or 'none'} could be counted."
        )
    verb = "raises" if row["intervention"] >= 0 else "lowers"
    low, high = sorted((row["intervention_low"], row["intervention_high"]))
    interval = f"{points(low)} to {points(high)}, {row['n_interventions']} edits"
    confirmed = row["verdict"] == "confirmed"
    agree = "Two tests agree: confirmed." if confirmed else f"Verdict: {row['verdict']}, {row['rests_on']}."
    return (
        f"Adding only “{row['attribute']}” {verb} the “{row['target']}” score by {points(abs(row['intervention'])).lstrip('+')} "
        f"points on average (95% interval {interval}). {agree}"
    )


def _outside_sentence(row: Row) -> str:
    """What moves the answer although the attribute model ignores where it lies."""
    if row["place"] is None:
        interval = f"{points(row['drift_low'])} to {points(row['drift_high'])}, {row['n']} images".replace("+", "")
        return (
            f"Something outside your attributes matters: redrawing regions the attribute model ignores, without guidance, shifts "
            f"the score by {points(row['drift']).lstrip('+')} points on average (95% interval {interval}), by what was there or "
            f"by the traces of redrawing."
        )
    interval = f"{points(row['low'])} to {points(row['high'])}, {row['n']} images"
    return (
        f"Something outside your attributes matters: changes in regions the attribute model ignores, most of them "
        f"{row['place']}, shift P(target) by {points(row['effect'])} points over an unguided control (95% interval {interval})."
    )


def _names(rows: Sequence[Row]) -> str:
    return listed([row["attribute"] for row in rows])


def _unsure_sentence(unsure: Sequence[Row], ranked: Sequence[Row]) -> tuple[str, ...]:
    """How many images would decide what these could not, or nothing when all is decided."""
    if not unsure:
        return ()
    names = _names(unsure) if len(unsure) < 4 else f"{len(unsure)} of {len(ranked)} attributes"
    needed = max((row["images_needed"] for row in unsure if row["images_needed"]), default=None)
    if needed is None:
        return (f"Undecided: {names}.",)
    return (f"Undecided: {names}. About {needed:,} images would decide, if effects and their spread stay as they are.",)
