"""Random views of an image, over which DVCE and Blended Diffusion average the class score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, grid_sample, interpolate

from cfx.guidance import class_loss, seen
from cfx.random import ImageNoise
from cfx.types import Classifier

DEGREES, SHIFT, DISTORTION, CHANCE = 15.0, 0.1, 0.7, 0.7  # rotation each way; fractions of the side; how often each is applied
AMOUNTS = 13  # uniform numbers a view: coin, angle, shift (2); coin, corners (4 x 2)


class Views(NamedTuple):
    """Homographies (count, B, 3, 3) from a view's coordinates to the image's, both on [-1, 1]: first tilted, then moved."""

    moved: Tensor
    tilted: Tensor


@dataclass(frozen=True)
class Rendering:
    """How the classifier is shown views: larger images average-pooled to `side`, beyond an image its border.

    With `as_released` a single view is the whole image, its shorter side resized to `side` (bicubic), and a tilted view is
    grey beyond the image.
    """

    side: int
    as_released: bool = False


def draw_views(x: Tensor, count: int, noise: ImageNoise) -> Views:
    """Views of images x (B, 3, H, W), `count` each; the first is the image itself.

    The others rotate by up to 15 degrees and shift by up to a tenth with probability .7, and draw each corner in by up to .7 of
    the half side with probability .7. Each image draws its own.
    """
    still = torch.eye(3, device=x.device, dtype=x.dtype).repeat(count, len(x), 1, 1)
    if count == 1:
        return Views(still, still)
    amounts = torch.special.ndtr(noise.like(x.new_empty(len(x), count - 1, AMOUNTS))).transpose(0, 1)  # uniform, (A, B, 13)
    moved = torch.where((amounts[..., :1] < CHANCE)[..., None], _affine(amounts[..., 1:4], x.shape[-1] / x.shape[-2]), still[1:])
    tilted = torch.where((amounts[..., 4:5] < CHANCE)[..., None], _perspective(amounts[..., 5:]), still[1:])
    return Views(torch.cat([still[:1], moved]), torch.cat([still[:1], tilted]))


def render_views(x: Tensor, views: Views, rendering: Rendering) -> Tensor:
    """The views of x (B, 3, H, W) in turn, (count B, 3, h, w)."""
    if rendering.as_released and len(views.moved) == 1:
        shorter = min(x.shape[-2:])
        size = [round(length * rendering.side / shorter) for length in x.shape[-2:]]
        return interpolate(x, size=size, mode="bicubic", align_corners=False)
    height, width = (min(length, rendering.side) for length in x.shape[-2:])
    x = adaptive_avg_pool2d(x, (height, width))
    rows = torch.linspace(-1 + 1 / height, 1 - 1 / height, height, device=x.device, dtype=x.dtype)
    columns = torch.linspace(-1 + 1 / width, 1 - 1 / width, width, device=x.device, dtype=x.dtype)
    y, x_ = torch.meshgrid(rows, columns, indexing="ij")
    points = torch.stack([x_, y, torch.ones_like(y)], dim=-1).view(1, -1, 3)  # (1, H W, 3)
    rendered = [x]
    for moved, tilted in zip(views.moved[1:], views.tilted[1:], strict=True):
        seen = points @ (moved @ tilted).transpose(1, 2)
        grid = (seen[..., :2] / seen[..., 2:].clamp(min=1e-3)).clamp(-2, 2)  # beyond the horizon: the border
        view = grid_sample(x, grid.view(len(x), height, width, 2), padding_mode="border", align_corners=False)
        if rendering.as_released:
            x_, y_, w = (points @ tilted.transpose(1, 2)).unbind(-1)
            inside = (w > 0) & (x_.abs() <= w) & (y_.abs() <= w)
            view = view * inside.view(len(x), 1, height, width)  # grey is 0
        rendered.append(view)
    return torch.cat(rendered)


def view_score(
    classifier: Classifier, x: Tensor, target: Tensor, views: Views, rendering: Rendering, temperature: float
) -> Tensor:
    """log p(target | x), (B,), averaged over views; logits are divided by the temperature. One call of the classifier."""
    classifier, x = seen(classifier, x)
    logits = classifier(render_views(x, views, rendering)).float() / temperature
    count = len(views.moved)
    losses = class_loss(logits, target.repeat(count), "log_prob")
    return -losses.view(count, len(x)).mean(0)


def _affine(amounts: Tensor, aspect: float) -> Tensor:
    """Rotation and shift from uniform numbers (..., 3); aspect is width over height, so that a rotation does not shear."""
    angle, right, down = ((2 * amounts - 1) * amounts.new_tensor([math.radians(DEGREES), 2 * SHIFT, 2 * SHIFT])).unbind(-1)
    zero, one, cos, sin = torch.zeros_like(angle), torch.ones_like(angle), angle.cos(), angle.sin()
    across, along = torch.stack([cos, -sin / aspect, right], -1), torch.stack([sin * aspect, cos, down], -1)
    return torch.stack([across, along, torch.stack([zero, zero, one], -1)], dim=-2)


def _perspective(amounts: Tensor) -> Tensor:
    """The homography that takes four drawn-in corners back to the image's, from uniform numbers (..., 8)."""
    corners = amounts.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    drawn_in = corners * (1 - DISTORTION * amounts.unflatten(-1, (4, 2)))
    (x, y), (to_x, to_y) = drawn_in.unbind(-1), corners.expand_as(drawn_in).unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = torch.cat(
        [
            torch.stack([x, y, one, zero, zero, zero, -x * to_x, -y * to_x], -1),
            torch.stack([zero, zero, zero, x, y, one, -x * to_y, -y * to_y], -1),
        ],
        dim=-2,
    )
    solved = torch.linalg.solve(rows, torch.cat([to_x, to_y], -1))
    return torch.cat([solved, one[..., :1]], -1).unflatten(-1, (3, 3))
