"""Training a classifier or an oracle on images in memory: AdamW, cosine schedule, augmentation; same seed, same file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from cfx.checkpoint import save_network
from cfx.errors import UserError
from cfx.networks.convnet import ConvNet
from cfx.random import derived_seed
from cfx.training.augment import Augmentation, augment
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
) -> Path:
    """Train a ConvNet and write it to `out` (.safetensors); `load_classifier` or `load_oracle` reads it without further settings.

    images: (N, 3, S, S) uint8. labels: (N,) class ids, for a classifier of the classes `names`; (N, K) float probabilities, to
    distil one from another's answers; (N, A) zeros and ones, for an oracle of the attributes `names`. A tenth, chosen by the
    seed, is held out; its accuracy (undisturbed images; for an oracle one per attribute) is in the file's metadata.
    `report(step, loss)` is called after every optimizer step.
    Raises UserError if there are fewer than ten images or the labels do not fit the names.
    """
    _check(images, labels, names)
    chance = torch.Generator().manual_seed(derived_seed("classifier", config.seed))
    order = torch.randperm(len(images), generator=chance)
    held_out, kept = order[: len(order) // 10], order[len(order) // 10 :]
    with torch.random.fork_rng(devices=[]):  # torch draws initial weights from its global generator only
        torch.manual_seed(config.seed)
        network = ConvNet(len(names), config.widths, config.grid).to(device)
    network = network.to(memory_format=torch.channels_last)  # much faster on a CPU
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, config.steps)
        chosen = kept[torch.randint(len(kept), (config.batch,), generator=chance)]
        x = augment(as_images(images[chosen]), config.augmentation, chance).to(device)
        loss = _loss(network(x), labels[chosen].to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        report(step + 1, loss.item())
    accuracy = _accuracy(network, images[held_out], labels[held_out])
    kind = "classes" if labels.ndim == 1 or labels.is_floating_point() else "attributes"
    facts = {
        "module": "cfx.networks.convnet:ConvNet",
        "kwargs": {"outputs": len(names), "widths": config.widths, "grid": config.grid},
        kind: list(names),
        "input_size": images.shape[-1],
        "training": config.model_dump(),
        "accuracy": accuracy[0] if kind == "classes" else dict(zip(names, accuracy, strict=True)),
    }
    return save_network(out, network, facts)


def as_images(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 as float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def _check(images: Tensor, labels: Tensor, names: Sequence[str]) -> None:
    if len(images) < 10 or len(images) != len(labels):
        raise UserError(f"{len(images)} images with {len(labels)} labels; training needs ten or more, one label each")
    if labels.ndim == 2 and labels.shape[1] != len(names):
        raise UserError(f"labels have {labels.shape[1]} columns for {len(names)} names: {', '.join(names)}")
    if labels.ndim == 1 and not 0 <= int(labels.min()) <= int(labels.max()) < len(names):
        raise UserError(f"labels run from {labels.min()} to {labels.max()}, but the classes are {', '.join(names)}")


def _schedule(step: int, steps: int) -> float:
    """Share of the learning rate: a short linear warm-up, then half a cosine down to zero."""
    return min(1.0, (step + 1) / max(1, steps // 20)) * 0.5 * (1 + math.cos(math.pi * step / steps))


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
    logits = torch.cat([network(as_images(batch).to(device)).cpu() for batch in images.split(256)])
    right = (logits > 0) == labels.bool() if labels.ndim == 2 else (logits.argmax(1) == labels)[:, None]
    return [float(share) for share in right.float().mean(0)]
