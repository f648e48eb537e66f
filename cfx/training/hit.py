"""Training a HiT, or a ViT of the same shape by the same recipe: AdamW, warm-up, cosine, soft labels, mixed images.

What a step draws depends on the seed and its number alone, so a killed training goes on from its checkpoint to the same end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from cfx.checkpoint import Facts, fit, read_state_dict, save_network
from cfx.errors import UserError
from cfx.images import from_uint8
from cfx.networks.blanking import blank_patches
from cfx.networks.hit import PRESETS, HiT, HiTShape
from cfx.networks.vit import vit
from cfx.random import derived_seed
from cfx.training.augment import Augmentation, augment
from cfx.training.loop import check_labels, descend, hold_out, set_rate
from cfx.training.resume import Checkpoint
from cfx.training.three_augment import Mixing, ThreeAugment, mix, three_augment
from cfx.types import Config


class HiTTraining(Config):
    """The recipe; its defaults are the thesis' for ImageNet (section 6.4.2), by DeiT III's code."""

    architecture: Literal["hit", "vit"] = Field("hit", description="vit: a plain ViT of the same shape, to compare with")
    shape: HiTShape = Field(PRESETS["hit-s-no-pool"], description="by its settings, or by its name: " + ", ".join(PRESETS))
    epochs: float = Field(600, gt=0)
    warm_up: float = Field(20, ge=0, description="epochs over which the learning rate rises to its full value")
    batch: int = Field(4096, ge=1, description="images an optimizer step")
    repeats: int = Field(3, ge=1, description="differently augmented copies of an image in its batch")
    learning_rate: float = Field(8e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0, description="of matrices; biases, norms, tokens and positions have none")
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    mixing: Mixing = Mixing()
    augmentation: ThreeAugment | Augmentation = ThreeAugment()
    attention_dropout: float = Field(0.2, ge=0, lt=1, description="share of the attention dropped")
    drop_path: float = Field(0.0, ge=0, lt=1)
    blanked: float = Field(
        0.0, ge=0, le=1, description="largest share of its patches removed from an image; rises to it in the middle third"
    )
    position_std: float = Field(
        0.02, gt=0, description="of the position embeddings at first; with more, attention goes by place from the start"
    )
    start: Path | None = Field(None, description="weights to go on from; a head for other classes is begun anew")
    allow_pickle: bool = Field(False, description="read `start` even if it runs code: released checkpoints hold their arguments")
    checkpoint_every: int = Field(100, ge=1, description="optimizer steps between checkpoints")
    seed: int = 0

    @field_validator("shape", mode="before")
    @classmethod
    def _by_name(cls, shape: object) -> object:
        if isinstance(shape, str) and shape not in PRESETS:
            raise UserError(f"there is no HiT preset {shape!r}; choose one of {', '.join(PRESETS)}")
        return PRESETS[shape] if isinstance(shape, str) else shape


def _fine_tuned(learning_rate: float) -> HiTTraining:
    return HiTTraining(epochs=300, batch=512, learning_rate=learning_rate)


RECIPES: Mapping[str, HiTTraining] = MappingProxyType(
    {
        "imagenet": HiTTraining(),
        "cub": _fine_tuned(1e-4),
        "dogs": _fine_tuned(5e-5),
        "cars": _fine_tuned(4e-4),
        "portraits": HiTTraining(
            shape=PRESETS["portraits"],
            epochs=10,
            warm_up=0.5,
            batch=32,
            repeats=1,
            learning_rate=2e-3,
            label_smoothing=0.0,
            mixing=Mixing(mixup=0, cutmix=0),
            augmentation=Augmentation(shift=0.03, zoom=0.03, blur=0.5, noise=0.1, erase=0.08),
            blanked=1.0,
            position_std=0.5,
        ),
    }
)


def train_hit(
    images: Tensor,
    labels: Tensor,
    config: HiTTraining,
    names: Sequence[str],
    out: Path,
    report: Callable[[int, float], None] = lambda step, loss: None,
    device: str = "cpu",
) -> Path:
    """Train a HiT (or ViT) to tell the classes `names` apart and write it to `out` (.safetensors).

    images: (N, 3, S, S) uint8, which may be mapped from a file; S is the shape's size. labels: (N,) class ids. A tenth, chosen
    by the seed, is held out; its accuracy is in the file's metadata. `report(step, loss)` is called after every optimizer step,
    of which there are `steps(config, N)`. Called again after a kill, it goes on from the checkpoint beside `out`. Raises
    UserError for fewer than ten images, labels that do not fit the names, a size that is not the shape's, a checkpoint of
    another configuration, or weights to start from that do not fit.
    """
    check_labels(images, labels, names)
    if images.shape[-2:] != (config.shape.size, config.shape.size):
        raise UserError(f"images are {tuple(images.shape[-2:])}, but shape.size is {config.shape.size}; make them equal")
    held_out, kept = hold_out(len(images), torch.Generator().manual_seed(derived_seed("hit", config.seed)))
    checkpoint = Checkpoint(out.with_name(f"{out.name}.checkpoint"), config)
    out.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():  # torch draws initial weights and dropout from its global generator only
        torch.manual_seed(config.seed)
        network = build(config, len(names))
        if config.start is not None:
            _begin_from(network, config.start, config.allow_pickle)
        _optimise(network.to(device), images, labels, kept, config, len(names), checkpoint, report, device)
    facts: Facts = {
        "module": f"cfx.networks.{'hit:HiT' if config.architecture == 'hit' else 'vit:vit'}",
        "kwargs": {"outputs": len(names), "shape": config.shape.model_dump()},
        "classes": list(names),
        "input_size": config.shape.size,
        "training": config.model_dump(mode="json"),
        "accuracy": accuracy(network, images[held_out], labels[held_out]),
    }
    saved = save_network(out, network, facts)
    checkpoint.path.unlink(missing_ok=True)
    return saved


def build(config: HiTTraining, outputs: int) -> nn.Module:
    """The untrained network."""
    network: HiT | VisionTransformer
    if config.architecture == "hit":
        network = HiT(outputs, config.shape, config.attention_dropout, config.drop_path)
        positions = network.encoder.pos_embedding
    else:
        network = vit(outputs, config.shape, config.attention_dropout, config.drop_path)
        for module in network.blocks.modules():  # as in a HiT: timm's .02 is far too little for a narrow network
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        assert network.pos_embed is not None
        positions = network.pos_embed
    with torch.no_grad():
        positions.mul_(config.position_std / 0.02)  # a ViT's and a HiT's are drawn with .02
    return network


def steps(config: HiTTraining, images: int) -> int:
    """Optimizer steps on that many images, of which a tenth is held out."""
    return max(1, round(config.epochs * (images - images // 10) / config.batch))


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of right answers on undisturbed images (N, 3, S, S) uint8."""
    device = next(network.parameters()).device
    network.eval()
    answers = torch.cat([network(from_uint8(batch).to(device)).argmax(1).cpu() for batch in images.split(256)])
    return float((answers == labels).float().mean())


def _begin_from(network: nn.Module, path: Path, allow_pickle: bool) -> None:
    """Fill the network with trained weights; the head's are left out where they decide between another number of classes."""
    state, own = read_state_dict(path, allow_pickle), network.state_dict()
    heads = [name for name in own if name.startswith("head") and name in state and state[name].shape != own[name].shape]
    fit(network, state | {name: own[name] for name in heads}, path, type(network).__name__)


def _optimise(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    kept: Tensor,
    config: HiTTraining,
    classes: int,
    checkpoint: Checkpoint,
    report: Callable[[int, float], None],
    device: str,
) -> None:
    """Every step of the training, in place, from the checkpoint if there is one. A batch has `repeats` copies of an image."""
    network.train()
    total, warm_up = steps(config, len(images)), config.warm_up * len(kept) / config.batch
    optimizer = torch.optim.AdamW(_groups(network, config.weight_decay), lr=config.learning_rate)
    for step in range(checkpoint.restore(device, network=network, optimizer=optimizer), total):
        set_rate(optimizer, config.learning_rate * _share(step, total, warm_up))
        seed = derived_seed("hit", config.seed, step)
        torch.manual_seed(seed)  # for dropout
        chance, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
        drawn = torch.randint(len(kept), (math.ceil(config.batch / config.repeats),), generator=chance)
        chosen = kept[drawn].repeat_interleave(config.repeats)[: config.batch]
        x = _augmented(from_uint8(images[chosen]).to(device), config.augmentation, chance)
        x, targets = mix(x, labels[chosen].to(device), classes, config.mixing, rng)
        if config.blanked:
            # with half of the evidence gone from the start, a HiT's even attention never finds any
            x = blank_patches(x, config.shape.patch, config.blanked * min(1.0, max(0.0, 3 * step / total - 1)), chance)
        loss = cross_entropy(network(x), targets, label_smoothing=config.label_smoothing)
        report(step + 1, descend(loss, optimizer, clipped=network))
        if (step + 1) % config.checkpoint_every == 0 and step + 1 < total:
            checkpoint.keep(step + 1, network=network, optimizer=optimizer)


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
