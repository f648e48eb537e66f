"""The verdict in plain words, from the views `verdicts`, `explained_share`, `findings`, `layers` and `gate`, and nothing else.

Red, amber and green are decided here and nowhere else: red is what was confirmed or fails its release check, green what leaves
nothing open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from warehouse.lens.fetch import Row
from warehouse.lens.gate import check_run
from warehouse.lens.listed_runs import open_run
from warehouse.lens.settled import settle
from warehouse.report.formatting import capital, listed, number, points, points_between, reason, size_in_points
from warehouse.report.names import Names
from warehouse.report.queries import EVIDENCE, evidence

RESTS_ON = ("runs", "ranked", "share", "claims", "compared", "layers", "rules")  # questions of the report
OPEN = ("suspected", "inconclusive", "not tested")  # verdicts on a claim that leave it open


@dataclass(frozen=True)
class Verdict:
    """One line for the reader in a hurry, and the sentences that carry it."""

    kind: Literal["finding", "clear", "inconclusive"]
    headline: str
    sentences: tuple[str, ...]

    @property
    def colour(self) -> Literal["red", "green", "amber"]:
        """Of the page's first screen."""
        colours: dict[str, Literal["red", "green", "amber"]] = {"finding": "red", "clear": "green", "inconclusive": "amber"}
        return colours[self.kind]


def read_verdict(root: Path, run_id: str) -> Verdict:
    """What the report of a run says first, asked of the warehouse. Raises UserError for an unknown run."""
    with closing(open_run(root, ";".join(EVIDENCE[name] for name in RESTS_ON), run_id)) as lens:
        check_run(lens, root, run_id)
        settle(lens, run_id)
        return verdict_from({name: evidence(lens, name, run_id).rows for name in RESTS_ON})


def verdict_from(answers: Mapping[str, Sequence[Row]]) -> Verdict:
    """The verdict from the answers to the report's questions RESTS_ON, and others."""
    runs, ranked, share, claims, compared, layers, rules = (answers[name] for name in RESTS_ON)
    return verdict(runs[0], ranked, share, claims, compared[0], layers, rules)


def verdict(
    run: Row,
    ranked: Sequence[Row],
    share: Sequence[Row],
    claims: Sequence[Row],
    compared: Row | None = None,
    layers: Sequence[Row] = (),
    rules: Sequence[Row] = (),
) -> Verdict:
    """What the page says first. Clear only where nothing is open, the names explain the answers and the release check passes.

    run: a row of the view runs; ranked: its rows of verdicts, strongest first; share: its rows of explained_share; claims: its
    rows of findings; compared: how many images and directions have a guided explanation and its null; layers: its rows of layers;
    rules: its rows of gate, none where it is held to no policy. Names become those that people use (see `Names`).
    """
    names = Names.of(run)
    found = _found(names.run(run), names.rows(ranked), names.rows(share), names.rows(claims), compared, layers)
    return _checked(found, names.run(run), names.rows(rules))


def _checked(found: Verdict, run: Row, rules: Sequence[Row]) -> Verdict:
    """The verdict beside the release check: what fails it is red, what it leaves open is not green."""
    results = [rule["result"] for rule in rules]
    reasons = [f"{capital(reason(rule['reason']))}." for rule in rules if rule["result"] == "fail"]
    if reasons and found.kind != "finding":
        headline = f"The {classifier_name(run)} fails its release check"
        return Verdict("finding", headline, (*reasons[:3], f"{found.headline}.", *found.sentences))
    if "inconclusive" in results and found.kind == "clear":
        headline = f"Nothing confirmed, but the release check of the {classifier_name(run)} is open"
        undecided = [reason(rule["reason"]) for rule in rules if rule["result"] == "inconclusive"]
        return Verdict("inconclusive", headline, (f"Open: {'; '.join(undecided[:3])}.", *found.sentences))
    return found


def _found(
    run: Row,
    ranked: Sequence[Row],
    share: Sequence[Row],
    claims: Sequence[Row],
    compared: Row | None,
    layers: Sequence[Row],
) -> Verdict:
    """What the evidence says before the release check has its word."""
    refused = next((row["rests_on"] for row in ranked if row["rests_on"].startswith("refused")), None)
    if refused:  # a failed canary refuses every finding
        return Verdict("inconclusive", f"No verdict on the {classifier_name(run)}", (f"{refused.capitalize()}.",))
    beside = [row for row in claims if row["kind"] != "attribute"]
    unnamed = _things([row for row in beside if row["verdict"] == "confirmed"])
    open_claims = _things([row for row in beside if row["verdict"] in OPEN])
    fragile = [row for row in claims if row["kind"] == "property" and row["verdict"] == "fragile"]
    attributes = [row for row in ranked if row["verdict"] == "confirmed"]
    explained = tuple(_share_sentence(row) for row in share) or (_not_measured(layers),)
    subject = f"The {classifier_name(run)}"
    unsure = [row for row in ranked if row["verdict"] == "inconclusive"]
    untested = next((row["rests_on"] for row in unsure if row["rests_on"].startswith("nothing was tested")), None)
    unedited = [row for row in ranked if row["verdict"] == "not tested"]
    open_ones = _untested_sentences(untested, unsure) if untested else _unsure_sentence(unsure, ranked)
    open_ones += _unedited_sentence(unedited)
    if attributes or unnamed:
        names = listed([*(row["attribute"] for row in attributes), *dict.fromkeys(map(claim_name, _headlined(unnamed)))])
        sentences = (*_attribute_sentences(run, ranked), *map(_claim_sentence, unnamed[:3]))
        return Verdict("finding", f"{subject} relies on {names}", (*sentences, *open_ones, *explained))
    suspected = [row for row in ranked if row["verdict"] == "suspected"]
    if suspected:  # open: nothing is confirmed
        headline = f"{subject} may rely on {_names(suspected)}"
        return Verdict("inconclusive", headline, (*_attribute_sentences(run, ranked), *open_ones, *explained))
    looked = _looked_at(run, ranked, claims)
    also = tuple(map(_claim_sentence, open_claims[:3]))
    if not ranked and not claims:
        why = nothing_to_compare(run, compared), *(explained if run["status"] == "finished" else ())
        return Verdict("inconclusive", f"No verdict yet on the {classifier_name(run)}", why)
    if untested:
        headline = f"Nothing could be tested: the explanations hardly change what the {classifier_name(run)} says"
        return Verdict("inconclusive", headline, (*open_ones, *also, *looked, *explained))
    if not all(row["cleared"] for row in share) or not share:
        headline = f"Not cleared: what decides the answers of the {classifier_name(run)} is not accounted for"
        return Verdict("inconclusive", headline, (*explained, *also, *map(_claim_sentence, fragile[:3]), *looked, *open_ones))
    if not ranked and any(row["needs_attributes"] for row in share):
        headline = f"Not cleared: which of the named attributes the {classifier_name(run)} relies on was not tested"
        return Verdict("inconclusive", headline, (*explained, NAMED_UNTESTED, *also, *looked))
    if unsure or open_claims:
        return Verdict("inconclusive", _open_headline(run, ranked, claims), (*open_ones, *also, *looked, *explained))
    if unedited:
        headline = f"Not cleared: not all was tested of the {classifier_name(run)}"
        return Verdict("inconclusive", headline, (*open_ones, *looked, *explained))
    headline = f"No reliance found: the {classifier_name(run)} is clear of all that was tried"
    return Verdict("clear", headline, (*looked, *explained, *map(_claim_sentence, fragile[:3])))


def _untested_sentences(untested: str, unsure: Sequence[Row]) -> tuple[str, ...]:
    """Why explanations tested nothing, and what edits say all the same."""
    reacting = [row for row in unsure if "edited by itself" in row["rests_on"]]
    edited = (
        f"Edited alone, “{row['attribute']}” moves the “{row['target']}” score by {points(row['intervention'])} points."
        for row in reacting[:3]
    )
    return (f"By explanations {untested.partition(';')[0]}.", *edited)


OWN = "own prediction"  # what is said of each image's own predicted class, where none is predicted often enough
NOTHING_NAMED = (
    "Nothing was cleared, because nothing was named: without labels and named attributes, the audit sees that something in the "
    "images moves the answer, and cannot tell whether it should."
)
NAMED_UNTESTED = (
    "Nothing was cleared: that attributes go with the answers does not say which of them decide, and one may be a shortcut. To "
    "test them takes counterfactuals, with an oracle that sees these attributes."
)
NOT_MEASURED = (
    "How much of the answers the names explain was not measured (it takes a label or an attribute, and 24 images or more with "
    "both answers among them), so nothing clears this classifier."
)
UNFINISHED = (
    "What a verdict would rest on is not there yet: the audit has not finished. Run it again; it goes on where it stopped."
)
NOTHING_TO_COMPARE = (
    "There is no image yet that has both a guided explanation and its null, and no property and no place of the images was "
    "tried, so there is nothing to compare."
)


def _not_measured(layers: Sequence[Row]) -> str:
    """Why nothing is cleared where no share of the answers was measured."""
    missing = {row["layer"] for row in layers if row["there"] is False}
    return NOTHING_NAMED if {"labels", "attributes"} <= missing else NOT_MEASURED


def nothing_to_compare(run: Row, compared: Row | None) -> str:
    """Why there is no effect of any attribute."""
    if run["status"] != "finished":
        return UNFINISHED
    if compared is None or not compared["images"]:
        return NOTHING_TO_COMPARE
    both = f"{compared['images']:,} images have both a guided explanation and its null, but "
    if len(run["classes"]) > 2 and not compared["goals"]:
        return (
            f"{both}no class was asked for in {compared['fewest']} of them or more, so there is no effect to tell: explain more "
            "images, or ask for one class in `target`."
        )
    return (
        f"{both}no oracle names an attribute of them that is not the label itself, so there is nothing to compare: set `oracle`."
    )


def _things(claims: Sequence[Row]) -> list[Row]:
    """Claims in which places that were exchanged together, because they touch, are one, with all their names."""
    found: dict[object, list[Row]] = {}
    for row in claims:
        together = row["kind"], row["class"], row["intervention"], row["low"], row["high"]
        found.setdefault(together if row["kind"] == "place" else (row["kind"], row["name"], row["class"]), []).append(row)
    named = (listed([rows[0]["name"], *(f"the {row['name']}" for row in rows[1:])]) for rows in found.values())
    return [rows[0] | {"name": name} for rows, name in zip(found.values(), named, strict=True)]


def _headlined(unnamed: Sequence[Row]) -> list[Row]:
    """Of confirmed properties and places those that the headline names, the strongest first.

    Where a property of the whole image shows, places decide, too, and are no other claim. A place that decides more than any of
    these is one: a mark there moves what is measured of the layout, contrast and gamma as well.
    """
    properties, places = ([row for row in unnamed if row["kind"] == kind] for kind in ("property", "place"))
    if not properties:
        return places
    whole = max((abs(row["intervention"]) for row in properties if row["property"] not in LAYOUT), default=0.0)
    strongest = [row for row in places if abs(row["intervention"]) > whole][:1]
    return sorted([*properties, *strongest], key=lambda row: -abs(row["intervention"]))


LAYOUT = frozenset(  # properties that a mark or a frame in one place moves
    {"border", "vignette", "light_x", "light_y", "corner", "stamp", "asymmetry", "mirror"}
    | {"subject_x", "subject_y", "subject_scale", "subject_tilt"}
)


def claim_name(row: Row) -> str:
    """A property or a place in a sentence: 'warmth', 'brightness or contrast' (which the images do not tell apart), 'the bottom
    centre'."""
    return f"the {row['name']}" if row["kind"] == "place" else " or ".join(sorted([row["name"], *row["tied"]]))


def _open_headline(run: Row, ranked: Sequence[Row], claims: Sequence[Row]) -> str:
    n = max((row["n"] for row in ranked), default=0)
    if ranked and all(row["verdict"] == "inconclusive" for row in ranked):
        return f"Inconclusive: too few images ({n}) to say what the {classifier_name(run)} relies on"
    beside = [row for row in claims if row["kind"] != "attribute"]
    left = [row for row in (*ranked, *beside) if row["verdict"] in OPEN]
    return f"The {classifier_name(run)}: nothing confirmed, {len(left)} of {len(ranked) + len(beside)} questions open"


def _attribute_sentences(run: Row, ranked: Sequence[Row]) -> tuple[str, ...]:
    """The strongest confirmed and suspected attributes in words, then what is suspected beside them."""
    confirmed, suspected = ([row for row in ranked if row["verdict"] == kind] for kind in ("confirmed", "suspected"))
    strongest = (*confirmed[:3], *suspected[:3])
    sentences = tuple(sentence for row in strongest for sentence in (effect_sentence(run, row), edit_sentence(row)))
    also = (f"Suspected, not confirmed: {_names(suspected)}.",) if confirmed and suspected else ()
    return (*sentences, *also)


def _looked_at(run: Row, ranked: Sequence[Row], claims: Sequence[Row]) -> tuple[str, ...]:
    """What was tried and moved nothing beyond the margin: never "nothing", but this."""
    clear = [row["attribute"] for row in ranked if row["verdict"] == "clear"]
    properties, places = (_clear_in_all(claims, kind) for kind in ("property", "place"))
    parts = [f"{listed(clear)} (each moves by less than {number(100 * run['margin'])} points)"] if clear else []
    parts += [f"{properties} {'property' if properties == 1 else 'properties'} of the image"] if properties else []
    parts += [f"{places} {'place' if places == 1 else 'places'} in it"] if places else []
    return (f"Looked at, and clear: {listed(parts)}.",) if parts else ()


def _clear_in_all(claims: Sequence[Row], kind: str) -> int:
    """How many properties or places are clear for every class."""
    of_kind = [row for row in claims if row["kind"] == kind]
    return len({row["name"] for row in of_kind} - {row["name"] for row in of_kind if row["verdict"] != "clear"})


def _share_sentence(row: Row) -> str:
    share, ceiling = max(0.0, row["share"]), max(0.0, row["ceiling"])
    enough = "" if row["cleared"] else " That is too little to clear it: something else decides."
    most = f", of {ceiling:.0%} that can be explained" if ceiling > share else ""
    return f"What you named explains {share:.0%} of this classifier's answers{most}.{enough}"


def _claim_sentence(row: Row) -> str:
    """A property or a place in words, with its interval."""
    interval = f"95% confidence {points_between(row['low'], row['high'])}, {row['n']} images"
    score = "the probability of an image's own prediction" if row["class"] == OWN else f"the “{row['class']}” score"
    moved = f"{score} by {points(row['intervention'])} points on average ({interval})"
    why = "not decided yet" if row["verdict"] == "inconclusive" else f"{row['verdict']}, {row['why']}"
    if row["kind"] == "place":
        open_why = why.replace("suspected, transplants; ", "")
        why = "nothing that was named accounts for it" if row["verdict"] == "confirmed" else open_why
        return f"Exchanging only {claim_name(row)} of the image moves {moved}: {why}."
    only = "only " if row["verdict"] == "confirmed" else ""
    return f"Moving {only}the property “{row['name']}” from low to high moves {moved}: {why}."


def classifier_name(run: Row) -> str:
    """'smile classifier “planted”', or the classes when the label is none of the oracle's attributes."""
    if run["target_attribute"]:
        return f"{run['target_attribute']} classifier “{run['name']}”"
    classes = run["classes"]
    return f"classifier “{run['name']}” of {listed(classes) if len(classes) < 5 else f'{len(classes)} classes'}"


def effect_sentence(run: Row, row: Row) -> str:
    """The effect of one attribute in plain words, with its interval and n."""
    way = "more" if row["effect"] > 0 else "less"
    interval = f"95% confidence {points_between(row['low'], row['high'])}, {row['n']} images"
    small = " This is too small to matter." if -run["margin"] < row["low"] and row["high"] < run["margin"] else ""
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
    interval = f"{points_between(row['intervention_low'], row['intervention_high'])}, {row['n_interventions']} edited images"
    confirmed = row["verdict"] == "confirmed"
    agree = "Two tests agree: confirmed." if confirmed else f"Verdict: {row['verdict']}, {row['rests_on']}."
    return (
        f"Adding only “{row['attribute']}” {verb} the “{row['target']}” score by {size_in_points(row['intervention'])} "
        f"points on average (95% confidence {interval}). {agree}"
    )


def _names(rows: Sequence[Row]) -> str:
    return listed([row["attribute"] for row in rows])


def _unedited_sentence(unedited: Sequence[Row]) -> tuple[str, ...]:
    """Which attributes nobody edited: that guidance left them alone does not clear them."""
    if not unedited:
        return ()
    names = _names(unedited) if len(unedited) < 9 else f"{len(unedited)} attributes"
    return (f"Not tested: {names} (guidance moved none of them beyond the margin, and none was edited).",)


def _unsure_sentence(unsure: Sequence[Row], ranked: Sequence[Row]) -> tuple[str, ...]:
    """How many images would decide what these could not, or nothing when all is decided."""
    if not unsure:
        return ()
    names = _names(unsure) if len(unsure) < 4 else f"{len(unsure)} of {len(ranked)} attributes"
    needed = max((row["images_needed"] for row in unsure if row["images_needed"]), default=None)
    if needed is None:
        return (f"Undecided: {names}.",)
    return (f"Undecided: {names}. About {needed:,} images would decide, if effects and their spread stay as they are.",)
