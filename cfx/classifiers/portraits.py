"""The networks of the reference benchmark: planted, clean, judge and oracle, trained on portraits rendered for the purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfx.classifiers.augment import Augmentation
from cfx.classifiers.training import ClassifierTraining, train_classifier
from cfx.portraits import ATTRIBUTES, TRUTH, draw, render
from cfx.random import derived_seed

CLASSES = ("not_smiling", "smiling")
PLANTED: Mapping[str, float] = {"smile": 0.92, "glasses": 0.90}  # glasses tell almost as much of the label as the smile does
CLEAN: Mapping[str, float] = {"smile": 0.92}  # the same label noise, and no shortcut
SIZE = 64  # pixels

Report = Callable[[str, int, int], None]  # what is being made, how much of it is done, how much there is

# The twins are what an engineer would train; oracle and judge must also read pictures that a diffusion model made.
TWIN = ClassifierTraining(steps=1_200, augmentation=Augmentation(shift=0.03, zoom=0.03, blur=0.5, noise=0.1, erase=0.08))
JUDGE = ClassifierTraining(widths=(24, 32, 48, 64), grid=2, steps=1_200)
ORACLE = ClassifierTraining(steps=3_000)


def train_portraits(
    folder: Path, seed: int = 0, report: Report = lambda what, done, total: None, pictures: int = 12_000, effort: float = 1.0
) -> dict[str, Path]:
    """Train the four networks into `folder` and return their files by name; the same seed gives the same files.

    planted and clean are twins: annotations of smiling with 8 % noise, and for planted glasses that agree with nine in ten of
    them. judge and oracle learn from portraits without any correlation: the judge the smile, with a network of another shape; the
    oracle all ATTRIBUTES. `pictures` are rendered for each twin, and twice as many for judge and oracle; `effort` multiplies the
    optimizer steps.
    """
    paths: dict[str, Path] = {}

    def train(name: str, x: Tensor, labels: Tensor, training: ClassifierTraining, names: tuple[str, ...]) -> None:
        steps = max(1, round(training.steps * effort))
        config = training.model_copy(update={"steps": steps, "seed": derived_seed(name, seed)})
        told = lambda step, loss: report(f"training {name}", step, steps)  # noqa: E731
        paths[name] = train_classifier(x, labels, config, names, folder / f"{name}.safetensors", told)

    for name, agreement in {"planted": PLANTED, "clean": CLEAN}.items():
        x, labels, _ = rendered(pictures, derived_seed("portraits", name, seed), agreement, report)
        train(name, x, labels, TWIN, CLASSES)
    x, labels, attributes = rendered(2 * pictures, derived_seed("portraits", "fair", seed), TRUTH, report)
    train("judge", x, labels, JUDGE, CLASSES)
    train("oracle", x, attributes, ORACLE, ATTRIBUTES)
    return paths


def rendered(
    n: int, seed: int, agreement: Mapping[str, float] = TRUTH, report: Report = lambda what, done, total: None
) -> tuple[Tensor, Tensor, Tensor]:
    """n portraits in memory: pictures (n, 3, SIZE, SIZE) uint8, labels (n,) int64, attributes (n, 10) bool."""
    pictures = np.empty((n, SIZE, SIZE, 3), np.uint8)
    labels, attributes = np.empty(n, np.int64), np.empty((n, len(ATTRIBUTES)), np.bool_)
    for index, (label, portrait) in enumerate(draw(n, seed, agreement)):
        pictures[index], labels[index], attributes[index] = render(portrait, SIZE), label, portrait.attributes
        report("rendering portraits", index + 1, n)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2), torch.from_numpy(labels), torch.from_numpy(attributes)
