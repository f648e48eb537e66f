"""Portraits at the door of the command line: write them, train the demo's networks on them, grade a classifier by the truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfx.classifiers import ClassifierConfig
from cfx.diffusion.training import PriorTraining, train_prior
from cfx.errors import UserError
from cfx.portraits import (
    NOUNS,
    WORDS,
    TrueEffect,
    attribute_weights,
    described,
    draw,
    render,
    sample,
    true_effects,
)
from cfx.training.portraits import RECIPES, train_on_portraits
from tasks.config import PriorConfig
from tasks.networks import classifier_for
from tasks.stages.prior import prior_folder

PRIOR = PriorTraining(bf16=True, compile=True, enough=None)
TEXT_STEPS = 3600  # of growing the text-to-image model from the prior
GRADED = 4711  # seed of the portraits that classifiers are graded on


def reliance(weights: str, n: int) -> list[TrueEffect]:
    """The exact effect of each attribute on a classifier's P(smiling), over n portraits with independent attributes."""
    classifier = classifier_for(ClassifierConfig(weights=weights), "cpu")
    return true_effects(classifier, [portrait for _, portrait in draw(n, GRADED)])


def training_steps(only: str | None) -> dict[str, int]:
    """The demo's networks and the optimizer steps of each. Raises UserError for an unknown name."""
    steps = {name: recipe.training.steps for name, recipe in RECIPES.items()} | {"prior": PRIOR.steps, "text": TEXT_STEPS}
    if only is not None and only not in steps:
        raise UserError(f"--only: there is no network {only!r}; there are {', '.join(steps)}")
    return {only: steps[only]} if only else steps


def train_network(name: str, to: Path, report: Callable[[int, float], None], start: Path | None = None) -> Path:
    """Train one of the demo's networks into the folder `to`; a killed training of the prior goes on from its checkpoint.

    `start` is a prior to go on from; it then sees other portraits than in its first training. The text-to-image model, `text`,
    always goes on from a prior: that one, or the folder's, or the one that comes with cfx.
    """
    if name == "text":
        return _train_text(to / "text", report, start or _prior_in(to))
    if name != "prior":
        return train_on_portraits(RECIPES[name], to / f"{name}.safetensors", report)
    training = PRIOR if start is None else PRIOR.model_copy(update={"start": start, "seed": PRIOR.seed + 1})

    def batches(step: int) -> Tensor:  # every image that the prior sees is a new portrait with independent attributes
        rng = np.random.default_rng((training.seed, step))
        pixels = np.stack([render(sample(rng), training.size) for _ in range(training.batch)])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1

    return train_prior(batches, training, to / "prior", report, "cuda" if torch.cuda.is_available() else "cpu")


def _prior_in(folder: Path) -> Path:
    trained = folder / "prior"
    return trained if (trained / "unet").is_dir() else prior_folder(Path(), PriorConfig(path="portraits:prior"), "")


def _train_text(to: Path, report: Callable[[int, float], None], prior: Path) -> Path:
    """The text-to-image model of Portraits; every image is a new portrait, its prompt says which attributes it has."""
    from cfx.diffusion.text_to_image import TextTraining, train_text_to_image  # needs the extra `sd`

    training = TextTraining(steps=TEXT_STEPS)

    def batches(step: int) -> tuple[Tensor, list[str]]:
        rng = np.random.default_rng((training.seed, step, 1))
        drawn = [sample(rng) for _ in range(training.batch)]
        pixels = np.stack([render(portrait) for portrait in drawn])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1, [described(portrait, rng) for portrait in drawn]

    words = ("a", "with", "at", "random", *NOUNS, *WORDS.values())
    return train_text_to_image(batches, words, prior, training, to, attribute_weights(100, training.seed), report)
