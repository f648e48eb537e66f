"""Small autoencoders, one a class and one for all: what IM1 and IM2 hold a counterfactual against."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss

from cfx.checkpoint import Facts, fit, read_facts, read_state_dict, save_network
from cfx.errors import UserError
from cfx.images import from_uint8
from cfx.training.loop import descend, seeded
from cfx.types import Config


class AutoencoderTraining(Config):
    """Knobs of the autoencoders of IM1 and IM2, one training a class and one for all."""

    width: int = Field(16, ge=1, description="channels of the first level, doubled at each of three")
    code: int = Field(8, ge=1, description="channels of the code, which has an eighth of the image's side")
    steps: int = Field(500, ge=1, description="optimizer steps a class")
    batch: int = Field(32, ge=1, description="images an optimizer step")
    learning_rate: float = Field(2e-3, gt=0)
    seed: int = 0


class Autoencoders(nn.Module):
    """A network for each class, in order, and a last one for all images: (B, 3, H, W) in [-1, 1] to the same."""

    def __init__(self, classes: Sequence[str], width: int, code: int) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.networks = nn.ModuleList(_network(width, code) for _ in range(len(classes) + 1))

    def reconstruct(self, x: Tensor, name: str | None) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] as the network of that class rebuilds it, shaped like x; that of all classes for None.

        Raises ValueError for a class that has none.
        """
        network = self.networks[-1 if name is None else self.classes.index(name)]
        rebuilt = interpolate(network(x), size=x.shape[-2:], mode="bilinear", align_corners=False)
        return rebuilt.tanh()


def _network(width: int, code: int) -> nn.Module:
    widths = (3, width, 2 * width, 4 * width)
    down = [part for a, b in pairwise(widths) for part in (nn.Conv2d(a, b, 3, 2, 1), nn.SiLU())]
    up = [
        part
        for a, b in pairwise(reversed(widths))
        for part in (nn.Upsample(scale_factor=2), nn.Conv2d(a, b, 3, padding=1), nn.SiLU())
    ]
    return nn.Sequential(*down, nn.Conv2d(widths[-1], code, 1), nn.Conv2d(code, widths[-1], 1), *up[:-1])


def train_autoencoders(
    images: Tensor, labels: Sequence[str], classes: Sequence[str], training: AutoencoderTraining, path: Path, device: str
) -> Path:
    """Train on images (N, 3, H, W) uint8, whose classes are `labels`, and write all networks to one .safetensors file.

    The same images and settings give the same networks. Raises UserError for a class that has no image.
    """
    missing = sorted(set(classes) - set(labels))
    if missing:
        raise UserError(f"no image of class {missing[0]!r} to train its autoencoder on; leave measures.autoencoders out")
    with seeded(training.seed):
        found = Autoencoders(classes, training.width, training.code).to(device)
    generator = torch.Generator().manual_seed(training.seed)
    for name in (*classes, None):
        mine = torch.tensor([i for i, label in enumerate(labels) if name in (None, label)])
        optimizer = torch.optim.AdamW(found.parameters(), lr=training.learning_rate)  # those of the others have no gradient
        for _ in range(training.steps):
            batch = mine[torch.randint(len(mine), (training.batch,), generator=generator)]
            x = from_uint8(images[batch]).to(device)
            descend(mse_loss(found.reconstruct(x, name), x), optimizer)
    facts: Facts = {"classes": list(classes), "width": training.width, "code": training.code}
    return save_network(path, found, facts)


def load_autoencoders(path: Path, device: torch.device | str = "cpu") -> Autoencoders:
    """The frozen networks from their file. Raises FileNotFoundError, or UserError naming what does not fit."""
    state, facts = read_state_dict(path), read_facts(path)
    found = Autoencoders(facts["classes"], facts["width"], facts["code"])
    fit(found, state, path, "cfx's autoencoders")
    return found.eval().requires_grad_(False).to(device)
