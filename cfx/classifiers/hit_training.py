"""Training a HiT, or a ViT of the same shape by the same recipe: AdamW, warm-up, cosine, soft labels, mixed pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cfx.checkpoint import save_network
from cfx.classifiers.augment import Augmentation, augment
from cfx.classifiers.hit import PRESETS, HiT, HiTShape
from cfx.classifiers.three_augment import Mixing, ThreeAugment, mix, three_augment
from cfx.classifiers.training import as_images
from cfx.classifiers.vit import vit
from cfx.random import derived_seed
from cfx.types import Config


class HiTTraining(Config):
    """The recipe; its defaults are the thesis' for ImageNet (section 6.4.2), by DeiT III's code."""

    architecture: Literal["hit", "vit"] = Field("hit", description="vit: a plain ViT of the same shape, to compare with")
    shape: HiTShape = PRESETS["hit-s-no-pool"]
    epochs: float = Field(600, gt=0)
    warm_up: float = Field(20, ge=0, description="epochs over which the learning rate rises to its full value")
    batch: int = Field(4096, ge=1, description="pictures an optimizer step")
    repeats: int = Field(3, ge=1, description="differently augmented copies of a picture in its batch")
    learning_rate: float = Field(8e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0, description="of matrices; biases, norms, tokens and positions have none")
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    mixing: Mixing = Mixing()
    augmentation: ThreeAugment | Augmentation = ThreeAugment()
    attention_dropout: float = Field(0.2, ge=0, lt=1)
    drop_path: float = Field(0.0, ge=0, lt=1)
    seed: int = 0


RECIPES: Mapping[str, HiTTraining] = MappingProxyType(
    {
        "imagenet": HiTTraining(),
        "portraits": HiTTraining(
            shape=PRESETS["portraits"],
            epochs=8,
            warm_up=0.5,
            batch=64,
            repeats=1,
            learning_rate=2e-3,
            label_smoothing=0.0,
            mixing=Mixing(mixup=0, cutmix=0),
            augmentation=Augmentation(shift=0.03, zoom=0.03, blur=0.5, noise=0.1, erase=0.08),
            attention_dropout=0.0,
        ),
    }
)


def train_hit(
    pictures: Tensor,
    labels: Tensor,
    config: HiTTraining,
    names: Sequence[str],
    out: Path,
    report: Callable[[int, float], None] = lambda step, loss: None,
    device: str = "cpu",
) -> Path:
    """Train a HiT (or ViT) to tell the classes `names` apart and write it to `out` (.safetensors).

    pictures: (N, 3, S, S) uint8, which may be mapped from a file; S is the shape's size. labels: (N,) class ids. A tenth, chosen
    by the seed, is held out; its accuracy is in the file's metadata. `report(step, loss)` is called after every optimizer step,
    of which there are `steps(config, N)`. Raises ValueError for fewer than ten pictures or a size that is not the shape's.
    """
    if len(pictures) < 10 or len(pictures) != len(labels):
        raise ValueError(f"{len(pictures)} pictures with {len(labels)} labels; training needs ten or more, one label each")
    if pictures.shape[-2:] != (config.shape.size, config.shape.size):
        raise ValueError(f"pictures are {tuple(pictures.shape[-2:])}, but shape.size is {config.shape.size}; make them equal")
    chance = torch.Generator().manual_seed(derived_seed("hit", config.seed))
    order = torch.randperm(len(pictures), generator=chance)
    held_out, kept = order[: len(order) // 10], order[len(order) // 10 :]
    with torch.random.fork_rng():  # torch draws initial weights and dropout from its global generator only
        torch.manual_seed(config.seed)
        network = build(config, len(names)).to(device)
        _optimise(network, pictures, labels, kept, config, len(names), chance, report, device)
    facts = {
        "module": f"cfx.classifiers.{'hit:HiT' if config.architecture == 'hit' else 'vit:vit'}",
        "kwargs": {"outputs": len(names), "shape": config.shape.model_dump()},
        "classes": list(names),
        "input_size": config.shape.size,
        "training": config.model_dump(),
        "accuracy": accuracy(network, pictures[held_out], labels[held_out]),
    }
    return save_network(out, network, facts)


def build(config: HiTTraining, outputs: int) -> nn.Module:
    """The untrained network."""
    make: Callable[..., nn.Module] = HiT if config.architecture == "hit" else vit
    return make(outputs, config.shape, config.attention_dropout, config.drop_path)


def steps(config: HiTTraining, pictures: int) -> int:
    """Optimizer steps on that many pictures, of which a tenth is held out."""
    return max(1, round(config.epochs * (pictures - pictures // 10) / config.batch))


@torch.no_grad()
def accuracy(network: nn.Module, pictures: Tensor, labels: Tensor) -> float:
    """Share of right answers on undisturbed pictures (N, 3, S, S) uint8."""
    device = next(network.parameters()).device
    network.eval()
    answers = torch.cat([network(as_images(batch).to(device)).argmax(1).cpu() for batch in pictures.split(256)])
    return float((answers == labels).float().mean())


def _optimise(
    network: nn.Module,
    pictures: Tensor,
    labels: Tensor,
    kept: Tensor,
    config: HiTTraining,
    classes: int,
    chance: torch.Generator,
    report: Callable[[int, float], None],
    device: str,
) -> None:
    """Every step of the training, in place. A batch holds `repeats` copies of each of its pictures."""
    network.train()
    total, warm_up = steps(config, len(pictures)), config.warm_up * len(kept) / config.batch
    rng = np.random.default_rng(derived_seed("mixing", config.seed))
    optimizer = torch.optim.AdamW(_groups(network, config.weight_decay), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, total, warm_up))
    for step in range(total):
        drawn = torch.randint(len(kept), (math.ceil(config.batch / config.repeats),), generator=chance)
        chosen = kept[drawn].repeat_interleave(config.repeats)[: config.batch]
        x = _augmented(as_images(pictures[chosen]).to(device), config.augmentation, chance)
        x, targets = mix(x, labels[chosen].to(device), classes, config.mixing, rng)
        loss = cross_entropy(network(x), targets, label_smoothing=config.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        report(step + 1, loss.item())


def _augmented(x: Tensor, how: ThreeAugment | Augmentation, chance: torch.Generator) -> Tensor:
    return three_augment(x, how, chance) if isinstance(how, ThreeAugment) else augment(x, how, chance)


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay acts on matrices and convolutions only."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in network.parameters():
        # tokens and position embeddings are (1, n, D)
        (decayed if parameter.ndim >= 2 and parameter.shape[0] > 1 else free).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def _share(step: int, total: int, warm_up: float) -> float:
    """Share of the learning rate: a linear warm-up, then half a cosine down to zero."""
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1.0, total - warm_up)))
