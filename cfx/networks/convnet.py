"""A small, smooth convolutional network: the classifiers, the oracle and the judge that cfx trains itself."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn


class ConvNet(nn.Module):
    """Levels of convolution, group norm and SiLU, each half the size of the last, averaged over a grid, then a linear head.

    (B, 3, H, W) in [-1, 1], sides of 16 to 256 pixels, to logits (B, outputs). SiLU and average pooling, rather than ReLU and
    max-pooling, give input gradients in the shape of what the network looks at; group norm keeps the images of a batch
    independent. A grid of more than 1 x 1 lets the head tell places apart: a small feature is learned several times faster so.
    """

    def __init__(self, outputs: int, widths: tuple[int, ...] = (16, 32, 64, 96), grid: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 6, stride=2, padding=2), *_normalised(widths[0])]
        for position, (before, after) in enumerate(pairwise(widths)):
            halve = [nn.AvgPool2d(2)] if position else []  # the first level has halved already
            layers += [*halve, nn.Conv2d(before, after, 3, padding=1), *_normalised(after)]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(grid), nn.Flatten())
        self.head = nn.Linear(widths[-1] * grid**2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] to logits (B, outputs)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def _normalised(width: int) -> tuple[nn.Module, nn.Module]:
    return nn.GroupNorm(math.gcd(8, width), width), nn.SiLU()
