"""Portraits at the door of the command line: write them, train the demo's networks on them, grade a classifier by the truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cfx.classifiers import ClassifierConfig
from cfx.diffusion.training import PriorTraining, train_prior
from cfx.portraits import TrueEffect, draw, render, sample, true_effects, write_portraits
from tasks.predict import classifier_for

__all__ = ["reliance", "train_network", "training_steps", "write_portraits"]

GRADED = 4711  # seed of the portraits that classifiers are graded on


def reliance(weights: str, n: int) -> list[TrueEffect]:
    """The exact effect of each attribute on a classifier's P(smiling), over n portraits with independent attributes."""
    classifier = classifier_for(ClassifierConfig(weights=weights), "cpu")
    return true_effects(classifier, [portrait for _, portrait in draw(n, GRADED)])


def train_prior_on_portraits(to: Path, training: PriorTraining, report: Callable[[int, float], None]) -> Path:
    """The demo's prior: every picture it sees is a new portrait with independent attributes."""

    def batches(step: int) -> Tensor:
        rng = np.random.default_rng((training.seed, step))
        pixels = np.stack([render(sample(rng), training.size) for _ in range(training.batch)])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1

    return train_prior(batches, training, to, report, "cuda" if torch.cuda.is_available() else "cpu")
