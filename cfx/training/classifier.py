"""Training a classifier or an oracle on images in memory: AdamW, cosine schedule, augmentation; same seed, same file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from cfx.checkpoint import Facts, save_network
from cfx.images import from_uint8
from cfx.networks.convnet import ConvNet
from cfx.random import derived_seed
from cfx.training.augment import Augmentation, augment
from cfx.training.loop import check_labels, cosine, descend, hold_out, seeded, set_rate
from cfx.types import Config


class ClassifierTraining(Config):
    """Knobs of cfx's own classifiers and oracles."""

    widths: tuple[int, ...] = Field((16, 32, 64, 96), min_length=1, description="channels of each level of the ConvNet")
    grid: int = Field(4, ge=1, description="places the head tells apart, each way")
    steps: int = Field(1_200, ge=1, description="optimizer steps")
    batch: int = Field(32, ge=1, description="images an optimizer step")
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)
    augmentation: Augmentation = Augmentation()
    seed: int = 0


def train_classifier(
    images: Tensor,
    labels: Tensor,
    config: ClassifierTraining,
    names: Sequence[str],
    out: Path,
    report: Callable[[int, float], None] = lambda step, loss: None,
    device: str = "cpu",
    *,
    weights: Tensor | None = None,
) -> Path:
    """Train a ConvNet and write it to `out` (.safetensors); `load_classifier` or `load_oracle` reads it without further settings.

    images: (N, 3, S, S) uint8. labels: (N,) class ids, for a classifier of the classes `names`; (N, K) float probabilities, to
    distil one from another's answers; (N, A) zeros and ones, for an oracle of the attributes `names`. A tenth, chosen by the
    seed, is held out; its accuracy (undisturbed images; for an oracle one per attribute) is in the file's metadata.
    `report(step, loss)` is called after every optimizer step.
    weights: (N,), how often each image is drawn, relative to the others; default: all alike.
    Raises UserError if there are fewer than ten images or the labels do not fit the names.
    """
    check_labels(images, labels, names)
    chance = torch.Generator().manual_seed(derived_seed("classifier", config.seed))
    held_out, kept = hold_out(len(images), chance)
    with seeded(config.seed):
        network = ConvNet(len(names), config.widths, config.grid).to(device)
    network = network.to(memory_format=torch.channels_last)  # much faster on a CPU
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    for step in range(config.steps):
        set_rate(optimizer, config.learning_rate * cosine(step, config.steps, max(1, config.steps // 20)))
        if weights is None:
            drawn = torch.randint(len(kept), (config.batch,), generator=chance)
        else:
            drawn = torch.multinomial(weights[kept], config.batch, replacement=True, generator=chance)
        chosen = kept[drawn]
        x = augment(from_uint8(images[chosen]), config.augmentation, chance).to(device)
        report(step + 1, descend(_loss(network(x), labels[chosen].to(device)), optimizer))
    accuracy = _accuracy(network, images[held_out], labels[held_out])
    facts: Facts = {
        "module": "cfx.networks.convnet:ConvNet",
        "kwargs": {"outputs": len(names), "widths": config.widths, "grid": config.grid},
        "input_size": images.shape[-1],
        "training": config.model_dump(),
    }
    if labels.ndim == 1 or labels.is_floating_point():
        facts |= {"classes": list(names), "accuracy": accuracy[0]}
    else:
        facts |= {"attributes": list(names), "accuracy": dict(zip(names, accuracy, strict=True))}
    return save_network(out, network, facts)


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    if labels.ndim == 2 and not labels.is_floating_point():
        return binary_cross_entropy_with_logits(logits, labels.float())
    return cross_entropy(logits, labels)


@torch.no_grad()
def _accuracy(network: ConvNet, images: Tensor, labels: Tensor) -> list[float]:
    """Share of right answers: one number for class ids, one an attribute for multi-hot labels."""
    if labels.is_floating_point():
        labels = labels.argmax(1)
    device = network.head.weight.device
    logits = torch.cat([network(from_uint8(batch).to(device)).cpu() for batch in images.split(256)])
    right = (logits > 0) == labels.bool() if labels.ndim == 2 else (logits.argmax(1) == labels)[:, None]
    return [float(share) for share in right.float().mean(0)]
