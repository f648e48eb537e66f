"""Blanked patches in training, so that an image with parts removed is nothing new to the network.

Insertion and deletion show a classifier images that no camera took. One that never saw a blank reads it as evidence, and the
games then grade its surprise instead of its map (Hase et al. 2021, arXiv:2106.00786). The fillings are the games' own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cfx.metrics.insertion_deletion import filled

COARSE = 4  # patches along one side of a lump


def blank_patches(x: Tensor, patch: int, most: float, generator: torch.Generator) -> Tensor:
    """Remove patches from images (B, 3, S, S) in [-1, 1]: from each a share of its own, uniform up to `most`, lumps and grains.

    The first half of the batch is filled with grey, the other with its own blur.
    """
    side = x.shape[-1] // patch
    grains = torch.rand(len(x), 1, side, side, generator=generator)
    lumps = torch.rand(len(x), 1, -(-side // COARSE), -(-side // COARSE), generator=generator)
    height = (grains + interpolate(lumps, scale_factor=COARSE, mode="nearest")[..., :side, :side]).flatten(1)
    share = most * torch.rand(len(x), 1, generator=generator)
    out = (height.argsort(1).argsort(1) < share * side**2).view(-1, 1, side, side).to(x)
    half = len(x) // 2
    filling = torch.cat([filled(x[:half], "zero"), filled(x[half:], "blur")])
    return torch.lerp(x, filling, interpolate(out, size=x.shape[-2:], mode="nearest"))
