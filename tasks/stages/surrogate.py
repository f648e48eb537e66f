"""The surrogate: a network distilled from a black box's answers to the audited images, whose gradient guides the ladder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from cfx.errors import UserError
from cfx.training.classifier import ClassifierTraining, train_classifier
from cfx.training.loop import FEWEST
from cfx.types import Classifier
from tasks.run import Run
from tasks.shard_images import pixels
from warehouse.facts.shards import Shard, read_shard
from warehouse.facts.storage import cache_of

DECIMALS = 3  # of the answers: the same classifier behind another door, other in its last digits, makes the same surrogate


def check_surrogate(training: ClassifierTraining | None, classifier: Classifier) -> None:
    """Raises UserError for a surrogate of a classifier that gives gradients itself."""
    if training is not None and classifier.differentiable:
        raise UserError("the classifier gives its own gradients, so nothing is distilled from it; leave `surrogate` out")


def check_enough(training: ClassifierTraining | None, images: int) -> None:
    """Raises UserError for a surrogate that too few images would have to teach."""
    if training is not None and images < FEWEST:
        raise UserError(f"a surrogate is trained on {FEWEST} images or more, and there are {images}; audit more, or leave it out")


def trained_surrogate(run: Run, images: Sequence[Shard], predicted: Sequence[Shard]) -> Path | None:
    """The surrogate of this run, trained on (image, the black box's probabilities) unless it is there. It costs no query."""
    training = run.config.surrogate
    if training is None:
        return None
    folder = run.root / "surrogates"
    path = (folder if isinstance(folder, Path) else cache_of(folder)) / f"{run.id}.safetensors"
    if path.is_file():
        return path
    probabilities = [p for shard in predicted for p in read_shard(shard, ["probabilities"])["probabilities"].to_pylist()]
    answers = torch.tensor(probabilities).round(decimals=DECIMALS)
    return train_classifier(pixels(images), answers, training, run.classes, path, device=run.device)
