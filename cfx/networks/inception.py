"""The Inception network of FID: torchvision's, with the four departures of the TensorFlow graph that the weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate
from torchvision.models import Inception3

from cfx.checkpoint import load_weights

SIDE = 299  # pixels
WEIGHTS = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"


# TensorFlow leaves what lies beyond the border out of the mean. The last block has a maximum by mistake; published FIDs have it.
MEAN = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
MAXIMUM = nn.MaxPool2d(3, stride=1, padding=1)
POOLS = dict.fromkeys(("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b"), MEAN) | {"7c": MAXIMUM}
AFTER = ("avgpool", "dropout", "fc")  # of the pooled features


class _Repooled(nn.Module):
    """A block of torchvision's whose last branch pools in another way."""

    def __init__(self, block: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.block: Any = block
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        *branches, _ = self.block._forward(x)
        return torch.cat([*branches, self.block.branch_pool(self.pool(x))], dim=1)


class Inception(nn.Module):
    """(B, 3, H, W) in [-1, 1] to pooled features (B, 2048). Resizes to 299 bilinearly without antialiasing, as pytorch-fid."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        layers = {name.removeprefix("Mixed_"): layer for name, layer in network.named_children() if name not in AFTER}
        self.layers = nn.Sequential(*(_Repooled(layer, POOLS[k]) if k in POOLS else layer for k, layer in layers.items()))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] to pooled features (B, 2048)."""
        x = interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        return adaptive_avg_pool2d(self.layers(x), 1).flatten(1)


def load_inception(weights: Path, device: torch.device | str = "cpu") -> Inception:
    """The frozen network. Raises FileNotFoundError, saying where the weights are, or UserError naming keys that do not fit."""
    if not weights.is_file():
        raise FileNotFoundError(f"no Inception weights at {weights}; fetch {WEIGHTS}")
    network = Inception3(num_classes=1008, aux_logits=False, transform_input=False, init_weights=False)
    load_weights(network, weights, "pytorch-fid's Inception")
    return Inception(network).eval().requires_grad_(False).to(device)
