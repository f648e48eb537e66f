"""Training from a user's own folder: a prior, a classifier, an oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cfx.checkpoint import read_facts
from cfx.diffusion.training import PriorTraining, train_prior
from cfx.errors import UserError
from cfx.images import Refused
from cfx.training.classifier import ClassifierTraining, train_classifier
from cfx.training.hit import RECIPES, HiTTraining, steps, train_hit
from cfx.training.robust import RobustTraining, train_robust
from tasks.data.annotations import FIXED, Annotations, columns_of, left_out, listing
from tasks.training.batches import FolderBatches, image_files, read_square


def read_images(files: Iterable[Path], size: int) -> tuple[Tensor, list[Path]]:
    """The images that can be read, (N, 3, size, size) uint8, and their files. Raises UserError if there are none."""
    images, read, refused = [], [], []
    for file in files:
        try:
            images.append(read_square(file, size))
        except (Refused, OSError) as error:
            refused.append(f"{file.name} ({error})")
            continue
        read.append(file)
    if not images:
        raise UserError(f"no image to train on: {'; '.join(refused[:3]) or 'the folder has none'}")
    return torch.stack(images), read


def prior_from_folder(
    folder: Path, training: PriorTraining, to: Path, report: Callable[[int, float], None], workers: int = 0
) -> Path:
    """Train a prior on every image below a folder; a killed training goes on from its checkpoint in `to`.

    Images stay on disk; `workers` processes read them ahead of the training, 0 for none.
    """
    batches = FolderBatches(image_files(folder), training, workers)
    return train_prior(batches, training, to, report, "cuda" if torch.cuda.is_available() else "cpu")


def oracle_from_folder(
    images: Path,
    annotations: Annotations,
    size: int,
    to: Path,
    training: ClassifierTraining,
    report: Callable[[int, float], None],
) -> Path:
    """Train an oracle on images and the yes/no columns of a table; a row with an unknown attribute is left out."""
    rows = listing(annotations)
    attributes = [name.removeprefix("a_") for name in rows.column_names[FIXED:]]
    if not attributes:
        raise UserError(
            f"{annotations.table} has no yes/no column, of which an oracle learns one attribute each; "
            f"{left_out(columns_of(annotations)) or 'it has no other column'}"
        )
    known = {row["file"]: [row[f"a_{name}"] for name in attributes] for row in rows.to_pylist()}
    complete = {file: values for file, values in known.items() if None not in values}
    x, answers = _read_labelled(images, complete, size)
    return train_classifier(x, answers, training, attributes, to, report, _device())


def classifier_from_folder(
    images: Path,
    annotations: Annotations,
    size: int,
    to: Path,
    training: ClassifierTraining,
    report: Callable[[int, float], None],
) -> Path:
    """Train a classifier on images and the label column of a table; its classes are the labels, sorted."""
    labels, classes = _labels(annotations)
    x, answers = _read_labelled(images, labels, size)
    return train_classifier(x, answers, training, classes, to, report, _device())


def hit_recipe(preset: str, architecture: str) -> dict[str, Any]:
    """The settings of a preset, for a HiT or a ViT of its shape. Raises UserError for a name that is none."""
    if preset not in RECIPES:
        raise UserError(f"--preset: there is no recipe {preset!r}; there are {', '.join(RECIPES)}")
    return RECIPES[preset].model_dump() | {"architecture": architecture}


class Lesson(NamedTuple):
    """Images (N, 3, S, S) uint8 with class ids (N,), and what the classes are called."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]


def read_lesson(images: Path, annotations: Annotations, size: int) -> Lesson:
    """The images that a table labels and that can be read, resampled to the size."""
    labels, classes = _labels(annotations)
    return Lesson(*_read_labelled(images, labels, size), tuple(classes))


def hit_steps(lesson: Lesson, training: HiTTraining) -> int:
    """Optimizer steps of that training."""
    return steps(training, len(lesson.images))


def hit_from_lesson(lesson: Lesson, to: Path, training: HiTTraining, report: Callable[[int, float], None]) -> Path:
    """Train a HiT (or ViT); a killed training goes on from its checkpoint beside `to`."""
    return train_hit(*lesson[:2], training, lesson.classes, to, report, "cuda" if torch.cuda.is_available() else "cpu")


def robust_from_lesson(lesson: Lesson, to: Path, training: RobustTraining, report: Callable[[int, float], None]) -> Path:
    """Train a classifier on attacked images."""
    return train_robust(*lesson[:2], training, lesson.classes, to, report, "cuda" if torch.cuda.is_available() else "cpu")


def robust_accuracies(path: Path) -> tuple[float, float]:
    """Share of right answers on the held-out tenth as it is, and attacked."""
    facts = read_facts(path)
    return facts["accuracy"], facts["robust_accuracy"]


def _labels(annotations: Annotations) -> tuple[dict[str, int], list[str]]:
    """Class ids by file and the classes, sorted. Raises UserError for fewer than two classes."""
    known = {row["file"]: row["label"] for row in listing(annotations).to_pylist() if row["label"]}
    classes = sorted(set(known.values()))
    if len(classes) < 2:
        raise UserError(f"label_column: {annotations.label_column!r} names {len(classes)} class; a classifier needs two or more")
    return {file: classes.index(label) for file, label in known.items()}, classes


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _read_labelled(images: Path, labels: Mapping[str, object], size: int) -> tuple[Tensor, Tensor]:
    """The images that can be read, (N, 3, size, size) uint8, with their labels."""
    x, read = read_images((images / file for file in labels if file), size)
    return x, torch.tensor([labels[str(file.relative_to(images))] for file in read])


def held_out_accuracy(path: Path) -> dict[str, float]:
    """Share of right answers on the held-out tenth, by attribute, or of all classes, as training wrote it beside the weights."""
    accuracy = read_facts(path)["accuracy"]
    return accuracy if isinstance(accuracy, dict) else {"all classes": accuracy}
