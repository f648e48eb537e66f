"""A network tried on some of the user's images: how many outputs, which size and values it wants, how often it is right.

What a file does not say is proposed with the reason: what makes the network right about significantly more labelled images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from cfx.classifiers import AnyClassifier, TorchClassifier
from cfx.classifiers.class_names import few
from cfx.classifiers.hub import IMAGENET_MEAN, IMAGENET_STD
from cfx.classifiers.network import BLANK_SIDES, NetworkConfig, load_network
from cfx.classifiers.probabilities import kind_of
from cfx.errors import UserError
from cfx.types import Classifier
from tasks.advice.accuracy_check import NORMALISED, Accuracy, Ids, enough_wrong, improves, other_order
from tasks.data.ingest import DataConfig, labelled_sample
from tasks.data.labels import match_labels
from tasks.first_look.images import ImagesFound
from tasks.first_look.network import Source
from tasks.first_look.table import TableFound
from tasks.networks import classifier_for

TRIED = 64  # images
LARGEST = 512  # pixels of a side that images keep where no one says what the network wants
SIDES = (28, 32, 64, 96, 128, 224)  # pixels that a network may have been trained at
BATCH = 16
SURE = 0.7  # of labelled images: a network that is right about more has its classes in order
BLACK_BOX = (  # what an ONNX file may have been trained on, beside [0, 1]
    {"range": [0, 255]},
    {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)},
)
BY_FILE, AS_GIVEN = "named by the file", "as given"


@dataclass(frozen=True)
class Subject:
    """What is tried on what. home: the folder of the settings; classes and size: what the user says of them."""

    source: Source
    images: ImagesFound
    table: TableFound
    home: Path
    classes: tuple[str, ...] = ()
    size: int | None = None

    def data(self, size: int) -> DataConfig:
        """The user's images at a size, pixels."""
        columns = {"file_column": self.table.file_column, "label_column": self.table.label_column}
        return DataConfig.model_validate({"images": self.table.images, "table": self.table.path, "size": size} | columns)

    def absolute(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of a classifier whose path does not depend on a folder."""
        weights = str(settings["weights"])
        return dict(settings) | ({} if weights.startswith("portraits:") else {"weights": self.home.resolve() / weights})

    def classifier(self, settings: Mapping[str, Any]) -> Classifier:
        """The classifier of these settings. Raises UserError, FileNotFoundError or ImportError for what does not fit."""
        return classifier_for(TypeAdapter(AnyClassifier).validate_python(self.absolute(settings)), "cpu")


@dataclass(frozen=True)
class Proposal:
    """The settings of a network as far as they could be found. size: of `data`, pixels; labels: class by label, where the table
    has numbers; reasons: for what was proposed."""

    settings: dict[str, Any]
    classes: tuple[str, ...]
    size: int
    labels: dict[str, str]
    channels: int | None = None
    input_size: int | None = None
    accuracy: Accuracy | None = None  # of the files at their own size
    accuracy_resampled: Accuracy | None = None  # at `size`, as an audit shows them
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def order_unsure(self) -> bool:
        """Whether nobody says in which order the classes are, and the images do not either."""
        tried = self.accuracy_resampled
        return "classes" in self.settings and (tried is None or tried.right <= tried.n * SURE)


def propose(subject: Subject) -> Proposal:
    """Try the network. Raises UserError, with the way out, for one that cannot be shown such images, or whose outputs are not as
    many as there are classes."""
    found = _started(subject)
    (_, x), labels = labelled_sample(subject.data(found.size), TRIED)
    found = _answering(subject, found, x)
    truth = _truth(labels, found, subject.table.label_column)
    if truth is None:
        unsure = "no label to try it on: what it is shown, and the order of `classes`, may be otherwise than proposed"
        found = replace(found, warnings=(*found.warnings, unsure))
    else:
        known = truth >= 0
        found = _tuned(subject, found, x[torch.from_numpy(known)], truth[known])
        found = _with_accuracy(subject, found)
    classifier = subject.classifier(found.settings)
    if isinstance(classifier, TorchClassifier):
        return replace(found, channels=classifier.network.channels, input_size=classifier.network.input_size or found.size)
    return replace(found, input_size=subject.source.input_size or found.size)


def _started(subject: Subject) -> Proposal:
    """Size and classes, before an image is shown."""
    settings, source, files = dict(subject.source.settings), subject.source, min(subject.images.side, LARGEST)
    if settings.get("access") == "onnx":
        side, outputs, names = source.input_size or files, source.outputs, source.classes
    else:
        side, outputs, names = _loaded(subject, settings, files)
    classes, why = _classes(subject, outputs, names)
    if why != BY_FILE or "access" in settings:
        settings["classes"] = list(classes)
    size = subject.size or min(side, files) if side != files else subject.size or files
    reasons = [f"classes {few(classes)}: {why}"]
    if size != subject.images.side:
        reasons.append(
            f"size {size}: what the network wants" if size == side else f"size {size}: of files of {subject.images.side} px"
        )
    if "input_size" in settings:
        reasons.append(
            f"input_size {settings['input_size']}: the first size of images that it takes, or its hub's own weights saw"
        )
    made_up = ("no names of classes: set them in the order of the outputs with --classes",) if why == "made up" else ()
    return Proposal(settings, classes, size, {}, reasons=tuple(reasons), warnings=made_up)


def _loaded(subject: Subject, settings: dict[str, Any], files: int) -> tuple[int, int, tuple[str, ...]]:
    """The side that a torch network wants, pixels, how many outputs it has, and how its maker calls them.

    Sets `input_size` where it takes that size alone. Raises what `load_network` raises, and UserError if it takes no size tried.
    """
    known = {name: value for name, value in subject.absolute(settings).items() if name in NetworkConfig.model_fields}
    network, facts = load_network(NetworkConfig.model_validate(known))
    names = tuple(facts.get("classes", ())) or subject.source.classes
    if network.input_size is not None:
        return network.input_size, network.outputs(), names
    side, refused = subject.source.input_size or network.published_size or files, None
    for tried in dict.fromkeys((side, files, *BLANK_SIDES)):
        try:
            with torch.no_grad():
                outputs = network(torch.zeros(2, 3, tried, tried)).shape[1]
        except UserError as error:
            refused = refused or error
            continue
        if tried != files:
            settings["input_size"] = tried
        return tried, outputs, names
    assert refused is not None
    raise refused


def _classes(subject: Subject, outputs: int | None, names: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The names of the outputs in their order, and who says so. Raises UserError where labels and outputs are not as many."""
    if subject.classes:
        return subject.classes, AS_GIVEN
    if names:
        return names, BY_FILE
    labels = tuple(sorted(subject.table.labels))
    if not labels:
        return tuple(f"class_{i}" for i in range(max(2, outputs or 2))), "made up"
    if outputs not in (None, len(labels)) and (outputs, len(labels)) != (1, 2):
        raise UserError(
            f"{subject.source.settings['weights']} gives {outputs} outputs, and column {subject.table.label_column!r} has "
            f"{len(labels)} labels ({few(labels)}); name every output in its order: --classes a,b,…, or choose the column: "
            "--label"
        )
    return labels, "the labels in order of their names, as ImageFolder numbers them"


def _answering(subject: Subject, found: Proposal, x: Tensor) -> Proposal:
    """With `answers`, where the network gives other things than the settings take by default."""
    settings = found.settings
    if settings.get("access") == "onnx":
        probable = "second" if subject.source.outputs == 1 else "probabilities"
        said, default = _taken(subject, settings, x, (probable, "logits")), "probabilities"
    else:
        classifier = subject.classifier(settings | {"answers": "logits"})
        assert isinstance(classifier, TorchClassifier)
        with torch.no_grad():
            raw = torch.cat([classifier.network(part) for part in x.split(BATCH)]).double().numpy()
        said, default = "probabilities" if kind_of(raw) in ("softmax", "sigmoid") else "logits", "logits"
    if said == default:
        return found
    return replace(found, settings=settings | {"answers": said}, reasons=(*found.reasons, f"answers: {said}, by what it gives"))


def _taken(subject: Subject, settings: dict[str, Any], x: Tensor, ways: Sequence[str]) -> str:
    """The first way to read a black box's answers that it does not contradict. Raises UserError if it contradicts all."""
    refused: UserError | None = None
    for way in ways:
        try:
            _logits(subject.classifier(settings | {"answers": way}), x)
        except UserError as error:
            refused = refused or error
            continue
        return way
    assert refused is not None
    raise refused


def _truth(labels: Sequence[str | None], found: Proposal, column: str | None) -> Ids | None:
    """The class id of each label, -1 without one; None where there is none. Numbers count as positions of classes.

    Raises UserError for labels that are no classes.
    """
    there = sorted({label for label in labels if label is not None})
    if not there:
        return None
    numbered = {str(at): name for at, name in enumerate(found.classes)}
    if not set(there) <= set(found.classes) and set(there) <= set(numbered):
        found.labels.update(numbered)
    try:
        classes = match_labels(there, found.classes, column, found.labels)
    except UserError as error:
        raise UserError(f"{error} (here: --classes, or --label)") from error
    ids = [-1 if label is None or (name := classes[label]) is None else found.classes.index(name) for label in labels]
    return np.array(ids, np.int64) if max(ids) >= 0 else None


def _tuned(subject: Subject, found: Proposal, x: Tensor, truth: Ids) -> Proposal:
    """With what makes the network right about significantly more of the images x (N, 3, H, W): values, size, order of classes."""
    said = _said(subject.classifier(found.settings), x)
    for changes in (_values(found), _sizes(subject, found)):
        if not enough_wrong(said, truth):
            break
        tried = [(change, answers) for change, answers in _answers_of(subject, found, changes, x)]
        better = [one for one in tried if improves(said == truth, one[1] == truth, len(tried))]
        if better:
            change, answers = max(better, key=lambda one: int((one[1] == truth).sum()))
            right, before = int((answers == truth).sum()), int((said == truth).sum())
            reason = f"{_written(change)}: right about {right} of {len(truth)} images, {before} without"
            found = replace(found, settings=found.settings | change, reasons=(*found.reasons, reason))
            found = replace(found, size=min(found.size, change.get("input_size", found.size)))
            said = answers
    order = other_order(said, truth, found.classes) if "classes" in found.settings and not subject.classes else None
    if order is None:
        return found
    reason = f"classes in the order {few(order.classes)}: right about {order.right} of {len(truth)}, {(said == truth).sum()} else"
    settings = found.settings | {"classes": list(order.classes)}
    return replace(found, settings=settings, classes=order.classes, reasons=(*found.reasons, reason))


def _values(found: Proposal) -> list[dict[str, Any]]:
    """Other values that images may have had in training."""
    if found.settings.get("access") == "onnx":
        return [{"image": image} for image in BLACK_BOX]
    return [{"mean": list(mean), "std": list(std)} for mean, std in NORMALISED]


def _sizes(subject: Subject, found: Proposal) -> list[dict[str, Any]]:
    """Other sizes that images may have had in training; none where the file or the user says which."""
    fixed = subject.size or subject.source.input_size or "access" in found.settings
    now = found.settings.get("input_size", found.size)
    return [] if fixed else [{"input_size": side} for side in SIDES if side != now]


def _answers_of(
    subject: Subject, found: Proposal, changes: Sequence[dict[str, Any]], x: Tensor
) -> Iterator[tuple[dict[str, Any], Ids]]:
    """What the network says under each change that it can take; grey networks take one number for three that are alike."""
    for change in changes:
        for part in (change, {name: value[:1] for name, value in change.items() if isinstance(value, list)}):
            if not part:
                continue
            try:
                answers = _said(subject.classifier(found.settings | part), x)
            except (UserError, ValueError):
                continue
            yield part, answers
            break


def _with_accuracy(subject: Subject, found: Proposal) -> Proposal:
    """With how often the network is right at the size of an audit, and at the files' own."""
    classifier, files = subject.classifier(found.settings), min(subject.images.side, LARGEST)
    at = {size: _accuracy(subject, found, classifier, size) for size in {found.size, files}}
    return replace(found, accuracy=at[files], accuracy_resampled=at[found.size])


def _accuracy(subject: Subject, found: Proposal, classifier: Classifier, size: int) -> Accuracy | None:
    (_, x), labels = labelled_sample(subject.data(size), TRIED)
    truth = _truth(labels, found, subject.table.label_column)
    if truth is None:
        return None
    try:
        said = _said(classifier, x)
    except UserError:  # of that size alone it is none
        return None
    return Accuracy(int((said == truth)[truth >= 0].sum()), int((truth >= 0).sum()))


@torch.no_grad()
def _logits(classifier: Classifier, x: Tensor) -> Any:
    return torch.cat([classifier(part) for part in x.split(BATCH)]).double().cpu().numpy()


def _said(classifier: Classifier, x: Tensor) -> Ids:
    ids: Ids = _logits(classifier, x).argmax(1)
    return ids


def _written(change: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in change.items())
