"""`oracle: auto` and `judge: auto`: trained before an audit on the images of its table that are not audited, once.

What was trained lies in <warehouse>/networks/<hash>, where the hash is of the data, the settings and the code that decide the
weights: a second audit of the same data trains nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torchvision.transforms.v2.functional import resize

from cfx.checkpoint import add_facts, read_facts
from cfx.diffusion.training import FIRST, train_prior
from cfx.errors import ConfigError, UserError
from cfx.images import height_and_width
from cfx.scratch import temporary_folder
from cfx.training.classifier import ClassifierTraining, train_classifier
from tasks.advice.associations import SAME, associations_of
from tasks.config import TRAINED_HERE, AuditConfig
from tasks.data.annotations import FIXED, listing
from tasks.data.drawing import drawn
from tasks.data.ingest import DataConfig, fingerprint, selected
from tasks.data.labels import Labels
from tasks.stages.prior import prior_folder
from tasks.training.lesson import Lesson, attributes_of, classes_of, is_no_attribute
from warehouse.facts.storage import Root, fetched, write_whole

Role = Literal["oracle", "judge"]
Report = Callable[[str, int, int], None]  # which network, steps done, steps in all

ROLES: tuple[Role, ...] = ("oracle", "judge")
FEWEST, MOST = 32, 4_000  # images to learn from: fewer are refused, of more so many are drawn
SIDE = 64  # pixels of the longer side that these networks see, at most
TIMED = 3  # optimizer steps that a duration is estimated from
NO_BETTER = 0.02  # of accuracy over always saying the more frequent: less, and nothing was learned
CODE = (  # what decides the weights beside data and settings
    "cfx.images",
    "cfx.networks.convnet",
    "cfx.training.augment",
    "cfx.training.balance",
    "cfx.training.classifier",
    "cfx.training.loop",
    "tasks.training.lesson",
    "tasks.training.auto",
)
_log = logging.getLogger("cfx.stages")


class Prepared(NamedTuple):
    """An audit's configuration with files for the networks that are trained for it.

    lines: what they learned from, or will; attributes: what an oracle that is yet to be trained will know; pending: which are yet
    to be trained, and left out of `config`.
    """

    config: AuditConfig
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    pending: tuple[Role, ...] = ()


@dataclass(frozen=True)
class Material:
    """What one of them learns from: rows of the table with these classes or attributes, and where the weights will lie."""

    role: Role
    data: DataConfig
    rows: pa.Table
    names: tuple[str, ...]
    weights: Root
    audited: bool  # whether these are the audited images themselves

    def lesson(self) -> Lesson:
        """The images read. Raises UserError for more that cannot be than `max_rejected` allows."""
        lesson = (attributes_of if self.role == "oracle" else classes_of)(self.data, self.rows)
        side = max(height_and_width(self.data.size))
        square = torch.cat([resize(part, [side, side], antialias=True) for part in lesson.images.split(256)])
        return lesson._replace(images=square)


def is_auto(config: AuditConfig, role: Role) -> bool:
    """Whether this network is to be trained for the audit."""
    return getattr(getattr(config, role), "weights", None) == TRAINED_HERE


def log_progress(name: str, step: int, steps: int) -> None:
    """A line in the log each tenth of a training."""
    if step % max(1, steps // 10) == 0:
        _log.info("training the %s: step %d of %d", name, step, steps)


def train_networks(
    config: AuditConfig, classes: Sequence[str], labels: Labels, device: str, report: Report = log_progress
) -> Prepared:
    """Train what is `auto` unless it is there. classes: the classifier's; labels: the class of each label of the table.

    A training that was killed begins again; a file is there whole or not at all. Raises ConfigError, naming the setting, where
    there is nothing, or too little, to learn.
    """
    found: list[Material] = []
    for role in filter(lambda role: is_auto(config, role), ROLES):
        with _blamed(role):
            material = _material(config, role, classes, labels)
            if not material.weights.is_file():
                _train(material, config.warehouse, device, report)
        found.append(material)
    files = {one.role: fetched(one.weights.parent) / one.weights.name for one in found}
    networks = {str(role): getattr(config, role).model_copy(update={"weights": file}) for role, file in files.items()}
    said = [_learned(one, files[one.role]) for one in found]
    warnings = tuple(warning for one, (_, doubts) in zip(found, said, strict=True) for warning in (*_doubts(one), *doubts))
    return Prepared(config.model_copy(update=networks), tuple(line for line, _ in said), warnings)


def expect_networks(config: AuditConfig, classes: Sequence[str], labels: Labels, device: str) -> Prepared:
    """As `train_networks`, but what is not there is left out and reported instead, with how long its training may take."""
    pending: list[Material] = []
    for role in filter(lambda role: is_auto(config, role), ROLES):
        with _blamed(role):
            material = _material(config, role, classes, labels)
        if not material.weights.is_file():
            pending.append(material)
    left = config.model_copy(update={one.role: None for one in pending})
    there = train_networks(left, classes, labels, device)
    prior = _expected_prior(config, device)
    names = next((one.names for one in pending if one.role == "oracle"), ())
    lines = tuple(_expected(one, device) for one in pending)
    warnings = tuple(warning for one in pending for warning in _doubts(one))
    said = (*there.lines, *lines, *prior)
    return Prepared(there.config, said, (*there.warnings, *warnings), names, tuple(one.role for one in pending))


def expected_attributes(config: AuditConfig) -> tuple[str, ...]:
    """What an oracle that is `auto` will know, before it is trained. Raises ConfigError where it would learn nothing."""
    with _blamed("oracle"):
        return _of_attributes(_rows(config.data)[0], config.data)[1]


def _expected_prior(config: AuditConfig, device: str) -> tuple[str, ...]:
    """How long training the prior on the spot may take on this machine, in a line; nothing for one that is there."""
    if config.prior is None or config.prior.train is None:
        return ()
    folder, training = prior_folder(config.warehouse, config.prior, fingerprint(config.data)), config.prior.train
    if (folder / "scheduler" / "scheduler_config.json").is_file():
        return ()
    side = training.size
    noise = torch.rand(training.batch, 3, side, side) * 2 - 1
    timed = training.model_copy(update={"steps": TIMED, "enough": None})
    with temporary_folder() as folder, _stopwatch() as (report, seconds):
        train_prior(lambda step: noise, timed, folder, report, device)
    least = FIRST if training.enough is not None else training.steps
    steps = f"{min(least, training.steps):,} to {training.steps:,}" if least < training.steps else f"{training.steps:,}"
    each = seconds[0]
    times = dict.fromkeys(_minutes(each * count) for count in (min(least, training.steps), training.steps))
    span = " to ".join(times).replace(" minutes to", " to")
    return (f"prior: yet to be trained, {steps} steps at {side} px: about {span}",)


def _expected(material: Material, device: str) -> str:
    side, training = max(height_and_width(material.data.size)), ClassifierTraining()
    noise = (torch.rand(len(material.names) * 8 + FEWEST, 3, side, side) * 255).to(torch.uint8)
    answers = torch.arange(len(noise)) % len(material.names)
    with temporary_folder() as folder, _stopwatch() as (report, seconds):
        timed = training.model_copy(update={"steps": TIMED})
        train_classifier(noise, answers, timed, material.names, folder / "timed.safetensors", report, device)
    names = ", ".join(material.names[:6]) + (", …" if len(material.names) > 6 else "")
    return (
        f"{material.role}: yet to be trained on {len(material.rows):,} images ({names}): about "
        f"{_minutes(seconds[0] * training.steps)}"
    )


@contextmanager
def _stopwatch() -> Iterator[tuple[Callable[[int, float], None], list[float]]]:
    """A `report` of steps, and after the body the seconds that one took; the first is slower and left out."""
    moments: list[float] = []
    seconds: list[float] = []
    yield (lambda step, loss: moments.append(time.monotonic())), seconds
    seconds.append((moments[-1] - moments[0]) / (len(moments) - 1))


def _minutes(seconds: float) -> str:
    return "a minute" if seconds < 90 else f"{round(seconds / 60)} minutes"


@contextmanager
def _blamed(role: Role) -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except UserError as error:
        raise ConfigError(f"{role}: auto: {error}") from error


def _material(config: AuditConfig, role: Role, classes: Sequence[str], labels: Labels) -> Material:
    """What there is to learn from. Raises UserError for too little."""
    rows, audited = _rows(config.data)
    if role == "judge":
        rows, names = _of_classes(rows, config.data, classes, labels), tuple(classes)
    else:
        rows, names = _of_attributes(rows, config.data)
    if len(rows) < FEWEST:
        whose = "that are not audited " if not audited else ""
        way_out = "lower data.limit" if not audited else "add images"
        raise UserError(
            f"{len(rows)} images {whose}can be learned from, and {FEWEST} are needed; {way_out}, give `weights` of a network "
            f"that was trained elsewhere, or leave `{role}` out"
        )
    if len(rows) > MOST:
        rows = rows.take(drawn([str(file) for file in rows["file"].to_pylist()], rows["label"].to_pylist(), MOST))
    longer = max(height_and_width(config.data.size))
    shown = [max(8, round(side * min(1.0, SIDE / longer))) for side in height_and_width(config.data.size)]
    data = config.data.model_copy(update={"limit": None, "split": None, "size": (shown[0], shown[1])})
    known = {"files": rows["file"].to_pylist(), "labels": rows["label"].to_pylist(), "names": names, "size": shown}
    parts = [fingerprint(data), json.dumps(known), ClassifierTraining().model_dump_json(), role, _code()]
    folder = config.warehouse / "networks" / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return Material(role, data, rows, names, folder / f"{role}.safetensors", audited)


def _rows(data: DataConfig) -> tuple[pa.Table, bool]:
    """The rows of the table that are not audited; all, and True, where there are no others."""
    rows = listing(data.model_copy(update={"limit": None, "split": None}))
    rows = rows.filter(pc.and_(pc.invert(rows["again"]), pc.is_valid(rows["file"])))
    others = rows.filter(pc.invert(pc.is_in(rows["file"], selected(data)["file"].combine_chunks())))
    return (others, False) if len(others) else (rows, True)


def _of_classes(rows: pa.Table, data: DataConfig, classes: Sequence[str], labels: Labels) -> pa.Table:
    """The labelled rows, with the classifier's classes for labels."""
    if data.label_column is None:
        raise UserError("a judge learns from labels; set data.label_column, or leave `judge` out")
    meant = [labels.get(label) if label else None for label in rows["label"].to_pylist()]
    named = rows.set_column(rows.column_names.index("label"), "label", pa.array(meant, pa.string()))
    known = named.filter(pc.is_valid(named["label"]))
    there = Counter(known["label"].to_pylist())
    if unseen := [name for name in classes if there[name] < 2]:
        raise UserError(
            f"{len(unseen)} of the classifier's classes have fewer than 2 labelled images to learn from, such as {unseen[0]!r}; "
            "add images, give `weights` of another classifier, or leave `judge` out"
        )
    return known


def _of_attributes(rows: pa.Table, data: DataConfig) -> tuple[pa.Table, tuple[str, ...]]:
    """The rows whose attributes are all known, without columns that look like a label or a number of the row."""
    names = [name.removeprefix("a_") for name in rows.column_names[FIXED:]]
    odd = [name for name in names if data.attribute_columns is None and is_no_attribute(name)]
    names = [name for name in names if name not in odd]
    known = rows.drop_columns([f"a_{name}" for name in odd])
    for name in names:
        known = known.filter(pc.is_valid(known[f"a_{name}"]))
    names = [name for name in names if len(pc.unique(known[f"a_{name}"])) > 1] if len(known) else names
    if not names:
        looks = f" ({', '.join(odd)} looks like no attribute; name it in data.attribute_columns if it is one)" if odd else ""
        raise UserError(
            f"{data.table or 'data'} has no yes/no column that tells images apart, of which an oracle learns one attribute "
            f"each{looks}; "
            "add one, give `weights` of an oracle from elsewhere, or leave `oracle` out"
        )
    fixed = known.column_names[:FIXED]
    return known.select([*fixed, *(f"a_{name}" for name in names)]), tuple(names)


def _train(material: Material, root: Root, device: str, report: Report) -> None:
    """Train one of them, and give its file its name when it is whole."""
    lesson, training = material.lesson(), ClassifierTraining()

    def reported(step: int, loss: float) -> None:
        report(material.role, step, training.steps)

    facts = lesson.facts() | {"most_frequent": _most_frequent(lesson)}
    with temporary_folder() as folder:
        part = folder / "part.safetensors"
        train_classifier(*lesson[:2], training, lesson.names, part, reported, device, weights=lesson.weights)
        write_whole(root, material.weights, add_facts(part, {"data": facts}).read_bytes())


def _most_frequent(lesson: Lesson) -> dict[str, float]:
    """How often the more frequent answer is right, by attribute, or for all classes."""
    if lesson.labels.ndim == 1:
        return {"all classes": float(lesson.labels.bincount().max() / len(lesson.labels))}
    yes = lesson.labels.float().mean(0)
    return dict(zip(lesson.names, torch.maximum(yes, 1 - yes).tolist(), strict=True))


def _learned(material: Material, weights: Path) -> tuple[str, tuple[str, ...]]:
    """What a network learned and how well, in a line, and what to say of what it did not learn."""
    facts = read_facts(weights)
    right = facts["accuracy"] if isinstance(facts["accuracy"], dict) else {"all classes": facts["accuracy"]}
    data = facts["data"]
    often = data["most_frequent"]
    assert isinstance(often, dict)
    line = f"{material.role}: trained on {data['images']:,} images; held-out accuracy (10 % of them) "
    line += ", ".join(f"{name} {share:.2f}" for name, share in right.items())
    doubts = [
        f"{material.role}: it did not learn {name}: right about {share:.0%} of the held-out images, where one answer for all "
        f"would be right about {often[name]:.0%}; do not rely on what it says of that"
        for name, share in right.items()
        if share < often[name] + NO_BETTER
    ]
    return line, tuple(doubts)


def _doubts(material: Material) -> tuple[str, ...]:
    """What to say of what a network learns from: the images that it will be used on, or an attribute that is the label itself."""
    same = (
        f"{material.role}: it is trained on the audited images themselves, because the table has no others, and is surer of "
        "them than of new ones; set data.limit to leave some for it",
    )
    itself = [one.attribute for one in associations_of(material.rows) if abs(one.phi) >= SAME]
    excuses = tuple(
        f"oracle: {name!r} is the label itself: learned from these images, it may go by whatever goes with the label in them, "
        "and a shortcut among that would count as named; learn it from images of another source"
        for name in itself
    )
    return (same if material.audited else ()) + (excuses if material.role == "oracle" else ())


def _code() -> str:
    return "".join(hashlib.sha256(Path(str(sys.modules[name].__file__)).read_bytes()).hexdigest() for name in CODE)
