"""Training from a user's own folder: a prior, a classifier, an oracle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cfx.checkpoint import add_facts, read_facts
from cfx.diffusion.distillation import Distillation, distil
from cfx.diffusion.pretrained import drawn_side
from cfx.diffusion.training import PriorTraining, train_prior
from cfx.errors import UserError
from cfx.training.classifier import ClassifierTraining, train_classifier
from cfx.training.hit import RECIPES, HiTTraining, steps, train_hit
from cfx.training.robust import RobustTraining, train_robust
from tasks.config import PriorConfig
from tasks.stages.prior import prior_folder
from tasks.training.batches import FolderBatches
from tasks.training.folder_images import FolderImages, folder_images
from tasks.training.lesson import Lesson

Report = Callable[[int, float], None]
Tell = Callable[[str], None]


def prior_from_folder(folder: Path, training: PriorTraining, to: Path, report: Report, workers: int = 0) -> Path:
    """Train a prior on every image below a folder, as `prior_from_images` does."""
    return prior_from_images(folder_images(folder), training, to, report, workers)


def prior_from_images(
    images: FolderImages, training: PriorTraining, to: Path, report: Report, workers: int, tell: Tell = lambda line: None
) -> Path:
    """Train a prior on images; a killed training goes on from its checkpoint in `to`. `tell` hears how good it is.

    Images stay on disk; `workers` processes read them ahead of the training, 0 for none.
    """
    batches = FolderBatches(images.files, training, workers, images.bits)
    return train_prior(batches, training, to, report, _device(), tell)


class Practice(NamedTuple):
    """The batches of a distillation."""

    size: int
    steps: int
    batch: int
    seed: int


def distilled_from_images(
    images: FolderImages, teacher: str, config: Distillation, to: Path, report: Report, workers: int
) -> Path:
    """Distil a teacher, a folder or `portraits:prior`, on images at the size that it draws; a killed training goes on."""
    folder = prior_folder(Path(), PriorConfig(path=teacher), "")
    practice = Practice(drawn_side(folder), config.halvings * config.updates, config.batch, config.seed)
    return distil(FolderBatches(images.files, practice, workers, images.bits), folder, config, to, report, _device())


def convnet_from_lesson(lesson: Lesson, to: Path, training: ClassifierTraining, report: Report) -> Path:
    """Train a classifier on classes, an oracle on attributes."""
    path = train_classifier(*lesson[:2], training, lesson.names, to, report, _device(), weights=lesson.weights)
    return _with_facts(path, lesson)


def hit_recipe(preset: str, architecture: str) -> dict[str, Any]:
    """The settings of a preset, for a HiT or a ViT of its shape. Raises UserError for a name that is none."""
    if preset not in RECIPES:
        raise UserError(f"--preset: there is no recipe {preset!r}; there are {', '.join(RECIPES)}")
    return RECIPES[preset].model_dump() | {"architecture": architecture}


def hit_steps(lesson: Lesson, training: HiTTraining) -> int:
    """Optimizer steps of that training."""
    return steps(training, len(lesson.images))


def hit_from_lesson(lesson: Lesson, to: Path, training: HiTTraining, report: Report) -> Path:
    """Train a HiT (or ViT); a killed training goes on from its checkpoint beside `to`."""
    return _with_facts(train_hit(*lesson[:2], training, lesson.names, to, report, _device()), lesson)


def robust_from_lesson(lesson: Lesson, to: Path, training: RobustTraining, report: Report) -> Path:
    """Train a classifier on attacked images."""
    return _with_facts(train_robust(*lesson[:2], training, lesson.names, to, report, _device()), lesson)


def robust_accuracies(path: Path) -> tuple[float, float]:
    """Share of right answers on the held-out tenth as it is, and attacked."""
    facts = read_facts(path)
    return facts["accuracy"], facts["robust_accuracy"]


def held_out_accuracy(path: Path) -> dict[str, float]:
    """Share of right answers on the held-out tenth, by attribute, or of all classes, as training wrote it beside the weights."""
    accuracy = read_facts(path)["accuracy"]
    return accuracy if isinstance(accuracy, dict) else {"all classes": accuracy}


def _with_facts(path: Path, lesson: Lesson) -> Path:
    return add_facts(path, {"data": lesson.facts()})


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
