"""Training from a user's own folder: a prior, a classifier, an oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from cfx.checkpoint import read_facts
from cfx.classifiers.training import ClassifierTraining, train_classifier
from cfx.diffusion.training import PriorTraining, train_prior
from cfx.pictures import Refused, decode_png, read_picture
from tasks.annotations import FIXED, Annotations, listing
from tasks.prior import batches_of

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"}
MAX_PIXELS = 50_000_000


def read_pictures(files: Iterable[Path], size: int) -> tuple[Tensor, list[Path]]:
    """The pictures that can be read, (N, 3, size, size) uint8, and their files. Raises ValueError if there are none."""
    pictures, read, refused = [], [], []
    for file in files:
        try:
            png = read_picture(file.read_bytes(), size, MAX_PIXELS, 1).png
        except (Refused, OSError) as error:
            refused.append(f"{file.name} ({error})")
            continue
        pictures.append(((decode_png([png]) + 1) * 127.5).round().to(torch.uint8))
        read.append(file)
    if not pictures:
        raise ValueError(f"no picture to train on: {'; '.join(refused[:3]) or 'the folder has none'}")
    return torch.cat(pictures), read


def prior_from_folder(folder: Path, training: PriorTraining, to: Path, report: Callable[[int, float], None]) -> Path:
    """Train a prior on every picture below a folder; a killed training goes on from its checkpoint in `to`."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; give a folder of pictures")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    pictures, _ = read_pictures(files, training.size)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return train_prior(batches_of(pictures, training), training, to, report, device)


def oracle_from_folder(
    images: Path,
    annotations: Annotations,
    size: int,
    to: Path,
    training: ClassifierTraining,
    report: Callable[[int, float], None],
) -> Path:
    """Train an oracle on pictures and the yes/no columns of a table; a row with an unknown attribute is left out."""
    rows = listing(annotations)
    attributes = [name.removeprefix("a_") for name in rows.column_names[FIXED:]]
    if not attributes:
        raise ValueError(
            f"{annotations.table} has no yes/no column; an oracle learns one attribute a column of 1/0, true/false or 1/-1"
        )
    known = {row["file"]: [row[f"a_{name}"] for name in attributes] for row in rows.to_pylist()}
    return _train(
        images, {file: values for file, values in known.items() if None not in values}, attributes, size, to, training, report
    )


def classifier_from_folder(
    images: Path,
    annotations: Annotations,
    size: int,
    to: Path,
    training: ClassifierTraining,
    report: Callable[[int, float], None],
) -> Path:
    """Train a classifier on pictures and the label column of a table; its classes are the labels, sorted."""
    known = {row["file"]: row["label"] for row in listing(annotations).to_pylist() if row["label"]}
    classes = sorted(set(known.values()))
    if len(classes) < 2:
        raise ValueError(f"label_column: {annotations.label_column!r} names {len(classes)} class; a classifier needs two or more")
    return _train(images, {file: classes.index(label) for file, label in known.items()}, classes, size, to, training, report)


def _train(
    images: Path,
    labels: Mapping[str, object],
    names: Sequence[str],
    size: int,
    to: Path,
    training: ClassifierTraining,
    report: Callable[[int, float], None],
) -> Path:
    pictures, read = read_pictures((images / file for file in labels if file), size)
    answers = torch.tensor([labels[str(file.relative_to(images))] for file in read])
    return train_classifier(pictures, answers, training, names, to, report, "cuda" if torch.cuda.is_available() else "cpu")


def held_out_accuracy(path: Path) -> dict[str, float]:
    """Share of right answers on the held-out tenth, by attribute, or of all classes, as training wrote it beside the weights."""
    accuracy = read_facts(path)["accuracy"]
    return accuracy if isinstance(accuracy, dict) else {"all classes": accuracy}
