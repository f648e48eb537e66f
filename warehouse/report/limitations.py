"""What the report cannot say, said in the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from warehouse.lens.fetch import Row
from warehouse.report.formatting import count, listed, number, percent, points
from warehouse.report.scope import has


@dataclass(frozen=True)
class Limit:
    title: str
    text: str


SURROGATE = Limit(
    "Surrogate-guided search.",
    "The classifier is a black box: the search was guided by a network distilled from its answers to these images, and each flip "
    "was checked on the classifier itself. What else moved may be the surrogate's doing, so an attribute is confirmed only by an "
    "edit of it alone, scored by the classifier itself.",
)


UNNAMED = Limit(
    "Nothing has a name.",
    "The audit has no attribute model (the setting oracle), so it says nothing of attributes: what decides shows as a "
    "property or a place of the image, and "
    "what is neither stays unseen.",
)
UNTESTED = Limit(
    "No attribute was tested.",
    "The attribute model sees attributes in the images. Whether one of them decides takes images in which it "
    "alone was changed, and "
    "without a model that draws (the setting prior) there are none.",
)
UNDRAWN = Limit(
    "Nothing was drawn.",
    "The audit has no model that draws (the setting prior): it moves and exchanges what the images have, and never "
    "shows what an image would have to look like.",
)
THESE_IMAGES = Limit(
    "These images only.",
    "What was found is a mean over images of this audit; other data may differ. Images that are parts or copies of one another "
    "count as if each were another, and intervals are then too narrow.",
)


def limits(
    run: Row,
    ranked: Sequence[Row],
    cost: Mapping[str, Row],
    fr_null: float | None,
    canary: Sequence[Row] = (),
    ways: Sequence[Row] = (),
) -> list[Limit]:
    """The standing limits, with this run's numbers in them. ranked: with `null`, the change without guidance; cost: by arm;
    ways: rows of the view of that name."""
    guided = cost.get("guided", {})
    config = json.loads(run["config"])
    drawn, named = has(config, "prior"), has(config, "oracle")
    found = [(_named(ranked) if drawn else UNTESTED) if named else UNNAMED]
    found += [_untouched(ranked, config), _oracle(ranked, fr_null), _size(ranked)] if drawn else [UNDRAWN, THESE_IMAGES]
    found += [_canary(row) for row in canary]
    if config.get("surrogate") is not None:
        found.append(SURROGATE)
    found += _ways({row["way"]: row for row in ways})
    if drawn and not guided.get("judged"):
        text = "No second classifier checked the flips, so adversarial changes cannot be distinguished from real ones."
        found.append(Limit("No judge.", text))
    if guided.get("lost_in_png"):
        text = f"{count(guided['lost_in_png'])} of {count(guided['explanations'])} flips are lost when rounded to 8 bits."
        found.append(Limit("Flips lost to 8-bit rounding.", text))
    if named and not run["target_attribute"]:
        text = "No attribute was named as the label (the setting target_attribute), so it is ranked like any other."
        found.append(Limit("The label is not set apart.", text))
    return found


def _ways(ways: Mapping[str, Row]) -> list[Limit]:
    """What an editor drew, and whether it counts."""
    if "editor" not in ways:
        return []
    n, counted = (sum(row[name] for row in ways.values()) for name in ("n", "admitted"))
    drew, whole = count(ways["editor"]["n"]), count(n)
    text = f"The audit’s editor, a network that learned from the first explanations, drew {drew} of {whole}"
    if "ladder after editor" in ways:
        text += f"; {count(ways['ladder after editor']['n'])} that it failed on were explained by search, as the first were"
    if counted == n:
        text += ". On images that it had not seen, both ways change every attribute alike within the margin: all count together."
    else:
        text += (
            ". It is not shown to change every attribute as the search does, so what is said of attributes rests on the "
            f"{count(counted)} explanations that the search made at once; flips and the second model are of all {whole}."
        )
    return [Limit("Two ways of drawing.", text)]


def _canary(row: Row) -> Limit:
    end = "passed" if row["passed"] else "failed, so no verdict is given"
    return Limit(
        f"The canary {end}.",
        f"The same audit of two twins of this classifier: {row['why']}. Its power to confirm {row['attribute']} is "
        f"{percent(row['power'])}, its false-alarm rate on the clean twin {percent(row['false_alarm_rate'])}.",
    )


def _untouched(ranked: Sequence[Row], config: Mapping[str, Any]) -> Limit:
    edited: list[str] = []
    unedited: list[str] = []
    for row in ranked:
        (edited if row["n_interventions"] else unedited).append(row["attribute"])
    if unedited:
        text = (
            "An attribute that changes with the answer may be a shortcut, or may only accompany one in the data that the drawing "
            "model was trained on."
        )
        return Limit("Association, not intervention.", f"{text} Not edited by themselves: {listed(sorted(unedited))}.")
    fewest = min((row["n_interventions"] for row in ranked), default=0)
    text = (
        f"Edits change {listed(sorted(edited))} as far as the attribute model can tell, and little else; each on {fewest} images "
        "or more."
    )
    named = (config.get("interventions") or {}).get("named")
    by = "a text-to-image model, from a text prompt" if named else "the drawing model, guided by the attribute model"
    return Limit(
        f"Edits are drawn by {by}.",
        text,
    )


def _named(ranked: Sequence[Row]) -> Limit:
    names = listed(sorted(row["attribute"] for row in ranked))
    text = (
        f"The audit looked at {names}. A shortcut without a name among them shows as a property, a place, or a low explained "
        "share; one that is none of these stays unseen."
    )
    return Limit("Only what the attribute model names.", text)


def _oracle(ranked: Sequence[Row], fr_null: float | None) -> Limit:
    title = "Drawing alone moves attributes, too."
    drift = {row["attribute"]: row["null"] for row in ranked if row["null"] is not None}
    if not drift:
        return Limit(title, "There is no unguided control yet, so this cannot be subtracted and no attribute can be ranked.")
    widest = max(drift, key=lambda name: abs(drift[name]))
    text = f"Without guidance, {widest} already moves most, by {points(drift[widest])} points"
    flips = "" if fr_null is None else f", and {percent(fr_null)} of the answers flip"
    return Limit(title, f"{text}{flips}. Effects are measured over this control; what the model cannot draw cannot be found.")


def _size(ranked: Sequence[Row]) -> Limit:
    n = max((row["n"] for row in ranked), default=0)
    widest = max(
        ((row["high"] - row["low"]) / 2 for row in ranked if row["verdict"] not in ("confirmed", "suspected")), default=None
    )
    reach = "" if widest is None else f" An effect smaller than {number(100 * widest, 2)} points may be missed."
    text = f"Effects are means over {count(n)} images of this audit, flipped or not; other data may differ.{reach}"
    return Limit("These images only.", text)
