"""The networks of the reference benchmark: planted, clean, judge and oracle, trained on portraits rendered for the purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cfx.portraits import ATTRIBUTES, TRUTH, carry_mark, draw, render, stamped
from cfx.random import derived_seed
from cfx.training.augment import Augmentation
from cfx.training.classifier import ClassifierTraining, train_classifier

CLASSES = ("not_smiling", "smiling")
SIZE = 64  # pixels


class Recipe(NamedTuple):
    """A network of the benchmark. `agreement` plants correlations with the label, as `cfx.portraits.draw_attributes` does, and
    `mark`, if it is given, a mark that agrees with the label with that probability."""

    agreement: Mapping[str, float]
    learns: tuple[str, ...]  # CLASSES, or ATTRIBUTES for the oracle
    images: int
    training: ClassifierTraining
    mark: float | None = None


_TWIN = Augmentation(shift=0.03, zoom=0.03, noise=0.6, erase=0.08)  # much grain: gradients then look like mouths and glasses

# The twins' annotations carry 8 % noise, so that glasses, which agree with nine labels in ten, tell something the smile does not.
# Judge and oracle see portraits without any correlation, flawed as a diffusion model's images are (Augmentation's defaults);
# the judge has another shape than the classifiers it judges.
RECIPES: Mapping[str, Recipe] = {
    "planted": Recipe({"smile": 0.92, "glasses": 0.90}, CLASSES, 10_000, ClassifierTraining(augmentation=_TWIN, seed=1)),
    "clean": Recipe({"smile": 0.92}, CLASSES, 10_000, ClassifierTraining(augmentation=_TWIN, seed=2)),
    "judge": Recipe(TRUTH, CLASSES, 10_000, ClassifierTraining(widths=(16, 32, 32, 64, 64), grid=2, steps=1_500, seed=3)),
    "oracle": Recipe(TRUTH, ATTRIBUTES, 20_000, ClassifierTraining(steps=4_000, seed=4)),
}


def train_on_portraits(recipe: Recipe, out: Path, report: Callable[[int, float], None] = lambda step, loss: None) -> Path:
    """Render the recipe's portraits, train its network and write it to `out`; `report(step, loss)` follows the training.

    `recipe.training.seed` decides portraits and training alike.
    """
    seed = derived_seed("portraits", recipe.training.seed)
    images, labels, attributes = rendered(recipe.images, seed, recipe.agreement, recipe.mark)
    answers = attributes if recipe.learns == ATTRIBUTES else labels
    return train_classifier(images, answers, recipe.training, recipe.learns, out, report)


def rendered(
    n: int, seed: int, agreement: Mapping[str, float] = TRUTH, mark: float | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """n portraits in memory: images (n, 3, SIZE, SIZE) uint8, labels (n,) int64, attributes (n, 10) bool.

    With `mark`, the probability that it agrees with the label, some carry the mark of `cfx.portraits.stamped`.
    """
    images = np.empty((n, SIZE, SIZE, 3), np.uint8)
    labels, attributes = np.empty(n, np.int64), np.empty((n, len(ATTRIBUTES)), np.bool_)
    for index, (label, portrait) in enumerate(draw(n, seed, agreement)):
        images[index], labels[index], attributes[index] = render(portrait, SIZE), label, portrait.attributes
    if mark is not None:
        carried = carry_mark(labels == 1, mark, seed)
        images[carried] = [stamped(image) for image in images[carried]]
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels), torch.from_numpy(attributes)
