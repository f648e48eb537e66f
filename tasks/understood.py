"""What an audit understood of its settings before it starts: images a class, attributes, what the classifier sees and how often
it is right, and what will be missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tasks.advice.accuracy_check import Accuracy
from tasks.advice.words_check import Worded

MOST = 5  # sentences about what goes with the label


@dataclass(frozen=True)
class Understood:
    """One audit in a few lines."""

    images: int
    per_class: Mapping[str, int]  # of the table's labels, as classes
    unlabelled: int
    labels: Mapping[str, str]  # label -> class, where the table calls them otherwise
    goes_with: tuple[
        str, ...
    ]  # attributes of the table that a classifier may have learned instead of the label, the strongest first
    sample: str | None  # how the images were chosen from the table; None for all of it
    columns: tuple[tuple[str, str, str], ...]  # each column of the table: its name, what it is used as, why
    target: str
    shown: Mapping[str, str]  # what the classifier is shown: input size, mean, std, each with who says so
    accuracy: Mapping[str, Accuracy]  # of classifier and judge on labelled images tried now
    words: tuple[Worded, ...]  # of an oracle by words: each attribute, calibrated and held against annotations
    kept: float | None  # share of predictions that noising and denoising alone leave as they are
    missing: Mapping[str, tuple[str, ...]]  # by reason: metrics that the audit will not have
    trained: tuple[str, ...] = ()  # networks that are trained for this audit: on what, how well, or how long it may take
    pending: tuple[str, ...] = ()  # which of them are yet to be trained


def as_json(found: Understood) -> dict[str, Any]:
    """For machines."""
    return asdict(found)


def lines_of(found: Understood) -> list[str]:
    """For people: a heading and what belongs to it on each line."""
    labelled = [f"{n:,} {name}" for name, n in list(found.per_class.items())[:20]]
    if len(found.per_class) > len(labelled):
        labelled.append(f"… ({len(found.per_class)} classes in all)")
    if found.unlabelled:
        labelled.append(f"{found.unlabelled:,} without a label")
    lines = [f"images: {found.images:,}: {', '.join(labelled)}"]
    if found.labels:
        lines.append("labels: " + ", ".join(f"{label} is {name}" for label, name in list(found.labels.items())[:20]))
    if found.sample is not None:
        lines.append(f"sample: {found.sample}")
    lines += list(found.goes_with[:MOST])
    attributes = [name for name, role, _ in found.columns if role == "attribute"]
    lines.append(f"attributes of the table: {', '.join(attributes) or 'none'}")
    lines += [f"left out: column {name!r}: {why}" for name, role, why in found.columns if role == "left out"]
    lines += [f"the classifier's {name.replace('_', ' ')}: {value}" for name, value in found.shown.items()]
    lines += [f"{role}: right about {tried.right} of {tried.n} labelled images tried" for role, tried in found.accuracy.items()]
    lines += list(found.trained)
    lines += [one.sentence() for one in found.words]
    if found.kept is not None:
        lines.append(f"prior: noise and denoising alone keep {found.kept:.0%} of the predictions")
    return lines + [f"missing: {', '.join(names)} ({reason})" for reason, names in found.missing.items()]
