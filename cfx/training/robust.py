"""Adversarial training (Madry et al. 2018): a network whose gradients show shapes, for DVCE's cone and for SVCE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cfx.checkpoint import Facts, save_network
from cfx.errors import UserError
from cfx.images import from_uint8
from cfx.networks.convnet import ConvNet
from cfx.random import derived_seed
from cfx.training.augment import augment
from cfx.training.classifier import ClassifierTraining
from cfx.training.loop import check_labels, descend, hold_out, seeded


class RobustTraining(ClassifierTraining):
    """Knobs of adversarial training; network, optimizer and augmentation are those of any of cfx's classifiers."""

    epsilon: float = Field(0.3, ge=0, description="l2 radius of the attack, on [0, 1], for 64 px; 3 is usual at 224 px")
    attack_steps: int = Field(3, ge=1, description="steps of the attack, each of 2 epsilon / attack_steps")
    ramp: float = Field(
        0.9, ge=0, le=1, description="share of the training over which epsilon grows from 0; with a short one nothing is learned"
    )


def l2_attack(network: nn.Module, x: Tensor, labels: Tensor, epsilon: float, steps: int, start: Tensor) -> Tensor:
    """Images within l2 distance epsilon of x that the network gets wrong as much as it can; PGD of `steps` steps.

    x: (B, 3, H, W) in [-1, 1], so is the result; epsilon is on [0, 1]. start: (B, 3, H, W), a direction from which it sets out,
    half a radius away.
    """
    radius = 2 * epsilon
    delta = _within(radius / 2 * start / _norm(start), x, radius)
    for _ in range(steps):
        delta = delta.detach().requires_grad_()
        with torch.enable_grad():
            loss = cross_entropy(network(x + delta), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, delta)
        delta = _within(delta.detach() + 2 * radius / steps * gradient / _norm(gradient), x, radius)
    return x + delta


def train_robust(
    images: Tensor,
    labels: Tensor,
    config: RobustTraining,
    names: Sequence[str],
    out: Path,
    report: Callable[[int, float], None] = lambda step, loss: None,
    device: str = "cpu",
) -> Path:
    """Train a ConvNet on attacked images and write it to `out` (.safetensors); `load_classifier` reads it without more.

    images: (N, 3, S, S) uint8; labels: (N,) class ids of the classes `names`. A tenth, chosen by the seed, is held out; its
    accuracy on plain and on attacked images is in the file's metadata. `report(step, loss)` is called after every step.
    Raises UserError if there are fewer than ten images or the labels do not fit the names.
    """
    if labels.ndim != 1:
        raise UserError(f"labels have shape {tuple(labels.shape)}; one class id each is needed, ({len(images)},)")
    check_labels(images, labels, names)
    chance = torch.Generator().manual_seed(derived_seed("robust", config.seed))
    held_out, kept = hold_out(len(images), chance)
    with seeded(config.seed):
        network = ConvNet(len(names), config.widths, config.grid).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps + 1)
    for step in range(config.steps):
        chosen = kept[torch.randint(len(kept), (config.batch,), generator=chance)]
        x, wanted = augment(from_uint8(images[chosen]), config.augmentation, chance).to(device), labels[chosen].to(device)
        start = torch.randn(x.shape, generator=chance).to(x)
        epsilon = config.epsilon * min(1.0, (step + 1) / max(1, config.ramp * config.steps))
        attacked = l2_attack(network, x, wanted, epsilon, config.attack_steps, start)
        loss = descend(cross_entropy(network(attacked), wanted), optimizer)
        pace.step()
        report(step + 1, loss)
    facts: Facts = {
        "module": "cfx.networks.convnet:ConvNet",
        "kwargs": {"outputs": len(names), "widths": config.widths, "grid": config.grid},
        "classes": list(names),
        "input_size": images.shape[-1],
        "training": config.model_dump(),
        "accuracy": robust_accuracy(network, images[held_out], labels[held_out], 0.0, config.attack_steps),
        "robust_accuracy": robust_accuracy(network, images[held_out], labels[held_out], config.epsilon, config.attack_steps),
    }
    return save_network(out, network, facts)


def robust_accuracy(network: nn.Module, images: Tensor, labels: Tensor, epsilon: float, steps: int) -> float:
    """Share of the images (N, 3, S, S) uint8 that are classified right after an attack of this radius; 0 for no attack."""
    device, right = next(network.parameters()).device, 0
    for batch, wanted in zip(images.split(64), labels.split(64), strict=True):
        x, wanted = from_uint8(batch).to(device), wanted.to(device)
        attacked = l2_attack(network, x, wanted, epsilon, steps, torch.ones_like(x)) if epsilon else x
        with torch.no_grad():
            right += int((network(attacked).argmax(1) == wanted).sum())
    return right / max(1, len(images))


def _within(delta: Tensor, x: Tensor, radius: float) -> Tensor:
    """delta drawn back into the l2 ball, then so that x + delta is in [-1, 1]."""
    delta = delta * (radius / _norm(delta)).clamp(max=1)
    return (x + delta).clamp(-1, 1) - x


def _norm(v: Tensor) -> Tensor:
    return v.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
