"""The first screen: release check, lead, accuracy by group, and three boxes. Every word from rows that the page prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from markupsafe import Markup

from warehouse.lens.fetch import Row
from warehouse.report.formatting import count, in_words, listed, number, score, size_in_points, whole_between
from warehouse.report.scope import access, has
from warehouse.report.verdict import OPEN, OWN, Verdict, claim_name

Answers = Mapping[str, Sequence[Row]]  # rows by the report's questions, named for people


@dataclass(frozen=True)
class Cells:
    """Accuracy in the cells of true label and one attribute: a row a label, with the attribute and without."""

    attribute: str
    known_by: str
    rows: tuple[tuple[str, tuple[Row | None, Row | None]], ...]


@dataclass(frozen=True)
class Box:
    """A short answer to a question; `lines` may hold code."""

    title: str
    lines: tuple[Markup, ...]


@dataclass(frozen=True)
class Summary:
    """pill: the release check in one phrase, with its result as its class."""

    pill: tuple[str, str]
    lead: tuple[Markup, ...]
    cells: Cells | None
    boxes: tuple[Box, ...]


def summary(run: Row, found: Answers, said: Verdict) -> Summary:
    """run: a row of `runs` named for people; found: the rows of the report's questions, named for people."""
    lead = (*_lead(run, found, said), *_accuracy(run, found))
    boxes = (
        Box("How sure?", tuple(_how_sure(run, found, said))),
        Box("What to do", tuple(_what_to_do(run, found, said))),
        Box("What we cannot say", tuple(_what_we_cannot_say(run, found))),
    )
    return Summary(_pill(found["rules"]), lead, accuracy_cells(found["cells"]), boxes)


def accuracy_cells(rows: Sequence[Row]) -> Cells | None:
    """The table of the query `cells`; None without groups that are large enough. A cell that no image is in is None."""
    if not any(row["reported"] for row in rows):
        return None

    def cells(group: Sequence[Row]) -> tuple[Row | None, Row | None]:
        by = {row["present"]: row for row in group}
        return by.get(True), by.get(False)

    table = tuple((label, cells(list(group))) for label, group in groupby(rows, key=lambda row: row["label"]))
    return Cells(rows[0]["attribute"], rows[0]["known_by"], table)


def group_name(row: Row) -> str:
    """'smiling without glasses'."""
    return f"{row['label']} {'with' if row['present'] else 'without'} {row['attribute']}"


def _pill(rules: Sequence[Row]) -> tuple[str, str]:
    if not rules:
        return "No release checks yet", "none"
    results = [rule["result"] for rule in rules]
    if failed := results.count("fail"):
        return f"Release check failed · {failed} of {len(results)}", "fail"
    if undecided := results.count("inconclusive"):
        return f"Release check open · {undecided} of {len(results)} undecided", "inconclusive"
    return f"Release check passed · all {len(results)}", "pass"


def _lead(run: Row, found: Answers, said: Verdict) -> list[Markup]:
    """What was found in whole points; where nothing was confirmed, what the verdict says first."""
    attributes = [row for row in found["ranked"] if row["verdict"] == "confirmed" and row["intervention_low"] is not None]
    unnamed = [row for row in found["claims"] if row["verdict"] == "confirmed" and row["kind"] != "attribute"]
    if refused(found) or not (attributes or unnamed):
        return [Markup("{}").format(sentence) for sentence in said.sentences[:2]]
    sentences = [_edited(row) for row in attributes[:2]]
    return [*sentences, *(_moved(row) for row in unnamed[: 3 - len(sentences)])]


def _edited(row: Row) -> Markup:
    sign = -1 if row["intervention"] < 0 else 1
    low, high = sorted((sign * row["intervention_low"], sign * row["intervention_high"]))
    return Markup(
        "Adding only “{}” and changing nothing else {} the “{}” score by <strong>{} points</strong> on average "
        "(95% confidence {}, {} edited images)."
    ).format(
        row["attribute"], "raises" if sign > 0 else "lowers", row["target"], size_in_points(row["intervention"], 0),
        whole_between(low, high), count(row["n_interventions"]),
    )  # fmt: skip


def _moved(row: Row) -> Markup:
    change = "Exchanging only" if row["kind"] == "place" else "Moving only"
    rest = "of the image" if row["kind"] == "place" else "from low to high"
    score = "the score of an image’s own class" if row["class"] == OWN else f"the “{row['class']}” score"
    sign = -1 if row["intervention"] < 0 else 1
    low, high = sorted((sign * row["low"], sign * row["high"]))
    return Markup("{} {} {} {} {} by <strong>{} points</strong> on average (95% confidence {}, {} images).").format(
        change, claim_name(row), rest, "raises" if sign > 0 else "lowers", score, size_in_points(row["intervention"], 0),
        whole_between(low, high), count(row["n"]),
    )  # fmt: skip


def _accuracy(run: Row, found: Answers) -> list[Markup]:
    """Overall accuracy, and the groups that it hides."""
    overall = next(iter(found["accuracy"]), None)
    if overall is None:
        return [Markup("How often it is right is not known: the images have no labels.")]
    start = Markup("Overall accuracy is <strong>{}</strong>").format(score(overall["value"]))
    lower = [row for row in found["worst"] if row["below"]]
    if not lower:
        groups = "no group is clearly below it" if found["worst"] else "it is not known by group"
        return [Markup("{}; {}.").format(start, groups)]
    total = lower[0]["below_overall"]
    guessing = [row for row in lower if row["low"] <= 1 / len(run["classes"])]
    many = "one group" if total == 1 else f"{in_words(total)} groups"
    if len(guessing) == total:
        hidden = f"it hides {many} on which the model is close to guessing"
    else:
        hidden = f"it hides {many} on which the model is clearly worse"
    shown = listed([f"{group_name(row)} ({score(row['value'])})" for row in lower[:2]])
    more = f" and {count(total - 2)} more" if total > 2 else ""
    return [Markup("{}, but {}: {}{}.").format(start, hidden, shown, more)]


def refused(found: Answers) -> bool:
    """A failed canary takes back every finding."""
    return any(row["rests_on"].startswith("refused") for row in found["ranked"])


def _how_sure(run: Row, found: Answers, said: Verdict) -> list[Markup]:
    lines = []
    confirmed = [row for row in found["claims"] if row["verdict"] == "confirmed"]
    opened = [row for row in found["claims"] if row["verdict"] in OPEN]
    if said.kind == "finding" and confirmed:
        attributes = [row for row in confirmed if row["kind"] == "attribute"]
        tests = "two independent tests: images changed until the answer changes, and edits of it alone"
        beside = "images in which it alone was changed, and by what goes with the answers"
        lines.append(Markup("<strong>Confirmed</strong> by {}.").format(tests if attributes else beside))
    elif opened or said.kind != "clear":
        of = f"{len(opened)} of {len(found['claims'])} questions are open" if opened else "what decides is not accounted for"
        lines.append(Markup("<strong>{}</strong>: {}.").format("Not decided" if said.kind != "finding" else "Not confirmed", of))
    else:
        lines.append(
            Markup("<strong>No sign of reliance</strong>: each of {} moves the score by less than {} points.").format(
                _counted(found["claims"], "clear"), number(100 * run["margin"])
            )
        )
    lines += _judge(run, found)
    for row in found["share"][:1]:
        lines.append(Markup("What was named explains {} of the answers.").format(score(max(0.0, row["share"]))))
    for row in found["canary"][:1]:
        if row["passed"]:
            lines.append(Markup("The same audit found what was planted in a twin, and nothing in a clean one."))
    return lines


def _judge(run: Row, found: Answers) -> list[Markup]:
    """Whether a second model sees the changes."""
    if not has(json.loads(run["config"]), "prior") or not any(row["metric"] == "fr" for row in found["scorecard"]):
        return []
    agreed = next((row["value"] for row in found["scorecard"] if row["metric"] == "judge_fr"), None)
    if agreed is None:
        return [Markup("No second model checked the changed images.")]
    so = ", so they are real changes and not noise" if agreed >= 0.75 else ", so part of the changes may be noise"
    return [Markup("A second model agrees with {} of the changed images{}.").format(score(agreed), so)]


def _what_to_do(run: Row, found: Answers, said: Verdict) -> list[Markup]:
    failed = [rule for rule in found["rules"] if rule["result"] == "fail"]
    if said.kind == "finding":
        return [
            Markup("<strong>Do not ship.</strong>") if failed else Markup("<strong>Decide before you ship.</strong>"),
            *_repair(run, found),
        ]
    if said.kind == "clear":
        keep = Markup("Keep it as the one to compare with: <code>cfx gate NEW --against {}</code>.").format(run["run_id"])
        return [Markup("As far as this audit sees, nothing speaks against it."), keep]
    return [Markup("<strong>Do not rely on it yet.</strong>"), *_settle(run, found)]


def _repair(run: Row, found: Answers) -> list[Markup]:
    names = [row["name"] for row in found["claims"] if row["verdict"] == "confirmed" and row["kind"] == "attribute"]
    torch = access((json.loads(run["config"]).get("classifier")) or {}).startswith("white")
    lines = []
    if names:
        balance = Markup("Balance {} across the classes of the training data and retrain").format(listed(names[:3]))
        repair = Markup("{}, or run <code>cfx repair {}</code>.").format(balance, run["run_id"])
        lines.append(repair if torch else Markup("{}.").format(balance))
    elif any(row["verdict"] == "confirmed" for row in found["claims"]):
        lines.append(Markup('Look at <a href="#beyond">what it reacts to</a>, and take it out of the training data or vary it.'))
    else:
        lines.append(Markup('Settle <a href="#conditions">the failed release check</a> first.'))
    return [*lines, Markup("Then compare: <code>cfx gate NEW --against {}</code>.").format(run["run_id"])]


def _settle(run: Row, found: Answers) -> list[Markup]:
    """What would close an open question, from what is open."""
    lines = []
    needed = [row["images_needed"] for row in found["claims"] if row["verdict"] in OPEN and row["images_needed"]]
    if needed:
        lines.append(
            Markup(
                "Audit about {} images instead of {}: that would decide the open attributes, if effects stay as they are."
            ).format(count(max(needed)), count(run["attempted"]))
        )
    if any(not row["cleared"] for row in found["share"]):
        lines.append(
            Markup("Name what decides: look at it and name it in <code>cfx serve</code>, or give the oracle more attributes.")
        )
    layer = next((row for row in found["layers"] if row["there"] is False), None)
    if layer is not None and not lines:
        lines.append(Markup("Add <code>{}</code>: it tells {}.").format(layer["line"], layer["adds"]))
    if not lines:
        lines.append(Markup('See <a href="#conditions">what the release check leaves open</a>.'))
    return lines


def _what_we_cannot_say(run: Row, found: Answers) -> list[Markup]:
    tested = _counted(found["claims"])
    images = Markup("{} images").format(count(run["attempted"])) if run["attempted"] else Markup("the images so far")
    lines = [Markup("Tested: {}, on {}.").format(tested, images) if found["claims"] else Markup("Nothing was tested yet.")]
    lines.append(Markup("What is none of these, and how other images fare, this audit does not see."))
    missing = [row["title"].lower() for row in found["left_out"]]
    if missing:
        lines.append(Markup('<a href="#left-out">Not looked at</a>: {}.').format(listed(missing)))
    return [*lines, Markup('<a href="#limits">All limits</a>.')]


def _counted(claims: Sequence[Row], verdict: str | None = None) -> str:
    """'9 named attributes, 18 properties and 8 places of the images'."""
    words: dict[str, tuple[str, str]] = {
        "attribute": ("named attribute", "named attributes"),
        "property": ("property of the image", "properties of the image"),
        "place": ("place in it", "places in it"),
    }
    chosen = [row for row in claims if verdict is None or row["verdict"] == verdict]
    numbers: dict[str, Any] = {kind: len({row["name"] for row in chosen if row["kind"] == kind}) for kind in words}
    return listed([f"{count(n)} {words[kind][n != 1]}" for kind, n in numbers.items() if n])
