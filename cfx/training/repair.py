"""Mend a classifier that leans on what it should not: train it on, on images in which that tells nothing of the label.

Three ways, the same for every network that ends in logits:

- fine-tune: all weights, on images, edits and counterfactuals, each group of label and attribute drawn equally often;
- reweight: the same on the images alone (group-balanced sampling; Sagawa et al. 2020, arXiv:1911.08731; Idrissi et al. 2022,
  arXiv:2110.14503);
- last-layer: the last layer alone, as a logistic regression on the features that the network has already (deep feature
  reweighting, Kirichenko et al. 2022, arXiv:2204.02937).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cfx.classifiers.last_layer import features, last_linear
from cfx.classifiers.torch_module import TorchClassifier
from cfx.errors import UserError
from cfx.images import from_uint8
from cfx.random import derived_seed
from cfx.training.augment import Augmentation, augment
from cfx.training.loop import cosine, descend, set_rate
from cfx.types import Config

RepairMethod = Literal["fine-tune", "reweight", "last-layer"]
MILD = Augmentation(shift=0.02, zoom=0.02, blur=0.3, contrast=0.1, brightness=0.1, noise=0.1, erase=0)
BATCH = 64  # images a forward pass that takes features


class Repair(Config):
    """How a classifier is trained on."""

    method: RepairMethod = Field("fine-tune", description="as the option `--method`")
    steps: int = Field(300, ge=1, description="optimizer steps of fine-tune and reweight")
    batch: int = Field(32, ge=1, description="images an optimizer step")
    learning_rate: float = Field(3e-4, gt=0, description="AdamW's, a cosine down to 0")
    weight_decay: float = Field(0.02, ge=0)
    augmentation: Augmentation | None = Field(
        None,
        description="default: that of the classifier's own training, where its file says it, so that what it learned to overlook "
        "it still does; else mild: shift and zoom .02, blur .3, contrast, brightness and noise .1",
    )
    strength: float = Field(0.1, gt=0, description="C, the inverse of last-layer's L2 penalty, on standardised features")
    seed: int = 0


def repaired(
    classifier: TorchClassifier,
    images: Tensor,
    labels: Tensor,
    weights: Tensor,
    config: Repair,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train the classifier on, in place; it stays in eval mode, so that its batch norms keep the statistics they have.

    images: (N, 3, H, W) uint8; labels: (N,) positions in `classifier.classes`; weights: (N,), how often each is drawn, or counts.
    `report(step, loss)` is called after every optimizer step. Raises UserError for a network without weights to train, and with
    last-layer for one that does not end in a linear layer.
    """
    if config.method == "last-layer":
        _last_layer(classifier, images, labels, weights, config)
        return
    trained = [part for part in classifier.network.module.parameters() if part.is_floating_point()]
    if not trained:
        raise UserError(f"{classifier.network.name} has no weights that can be trained")
    device = classifier.network.gain.device
    chance = torch.Generator().manual_seed(derived_seed("repair", config.seed))
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    for part in trained:
        part.requires_grad_(True)
    try:
        for step in range(config.steps):
            set_rate(optimizer, config.learning_rate * cosine(step, config.steps, max(1, config.steps // 20)))
            chosen = torch.multinomial(weights, config.batch, replacement=True, generator=chance)
            x = augment(from_uint8(images[chosen]), config.augmentation or MILD, chance).to(device)
            report(step + 1, descend(cross_entropy(classifier(x), labels[chosen].to(device)), optimizer))
    finally:
        for part in trained:
            part.requires_grad_(False)


def _last_layer(classifier: TorchClassifier, images: Tensor, labels: Tensor, weights: Tensor, config: Repair) -> None:
    """Put the logistic regression's weights into the last layer: those of every class, or of the one logit that tells two."""
    network = classifier.network
    last, _ = last_linear(network)
    device = network.gain.device
    seen = torch.cat(
        [torch.from_numpy(features(network, last, from_uint8(part).to(device))) for part in images.split(BATCH)]
    ).numpy()
    scale = StandardScaler()
    model = LogisticRegression(C=config.strength, max_iter=5_000)
    model.fit(scale.fit_transform(seen), labels.numpy(), sample_weight=weights.numpy())
    weight = torch.from_numpy(model.coef_ / scale.scale_)
    bias = torch.from_numpy(model.intercept_) - weight @ torch.from_numpy(scale.mean_)
    _put(last, classifier, weight, bias)


@torch.no_grad()
def _put(last: nn.Linear, classifier: TorchClassifier, weight: Tensor, bias: Tensor) -> None:
    """weight (R, F), bias (R,): R is 1 for two classes, the log-odds of the second, else one row a class."""
    if last.bias is None:
        last.bias = nn.Parameter(last.weight.new_zeros(last.out_features), requires_grad=False)
    if classifier.head == "sigmoid":
        rows: slice | list[int] = [classifier.output or 0]
    elif len(weight) == 1:
        rows, weight, bias = slice(None), torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    else:
        rows = slice(None)
    last.weight[rows] = weight.to(last.weight)
    last.bias[rows] = bias.to(last.bias)
