"""Insertion and deletion: does the classifier's answer hang on what a map calls salient (Petsiuk et al. 2018; thesis, 6.4)?

Patches are put into an empty image, or removed from the image, the most salient first, and the probability of the class
predicted on the whole image is followed. A faithful map makes it rise at once (insertion) or fall at once (deletion).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, conv2d, interpolate

Game = Literal["insertion", "deletion"]
Filling = Literal["zero", "blur", "blur_as_released"]

BLUR_SIDE, BLUR_SIGMA = 11, 5.0  # pixels


def area_under(curve: Tensor) -> Tensor:
    """Area under curves (..., n + 1) over [0, 1] by the trapezoidal rule, (...).

    >>> area_under(torch.tensor([0.0, 0.5, 1.0])).item()
    0.5
    """
    return (curve.sum(-1) - (curve[..., 0] + curve[..., -1]) / 2) / (curve.shape[-1] - 1)


def normalised_area_under(curve: Tensor) -> Tensor:
    """nAUC of curves (..., n), (...): the area as a share of the curve's largest value; 0 for a curve of 0.

    Compares classifiers of unlike confidence.
    """
    return area_under(curve) / curve.amax(-1).clamp(min=torch.finfo(curve.dtype).tiny)


@torch.no_grad()
def curves(
    classifier: Callable[[Tensor], Tensor],
    x: Tensor,
    saliency: Tensor,
    game: Game,
    filling: Filling = "zero",
    side: int | None = None,
    steps: int | None = None,
    empty: tuple[float, float, float] = (0.0, 0.0, 0.0),
    batch_size: int = 256,
) -> Tensor:
    """Probability of the class predicted on x after none to all patches, (B, steps + 1); average these, then take `area_under`.

    x: (B, 3, H, W) in [-1, 1]. saliency: (B, h, w), averaged or repeated to side x side patches (default: its own h x w), of
    which 0 .. all are played in `steps` even steps (default: one by one). empty: the colour of a removed patch in [-1, 1], the
    classifier's mean colour in the published protocol; (0, 0, 0) where images are normalised by .5 and .5.
    """
    grid = (saliency.shape[-2], saliency.shape[-1]) if side is None else (side, side)
    ranks = patch_ranks(on_grid(saliency, grid))
    replaced = filled(x, filling, empty)
    predicted = classifier(x).argmax(1)
    patches = grid[0] * grid[1]
    counts = torch.linspace(0, patches, (steps or patches) + 1).round().to(ranks)
    followed = []
    for count in counts:
        chosen = interpolate((ranks < count).to(x)[:, None], size=x.shape[-2:], mode="nearest")
        shown = torch.lerp(replaced, x, chosen if game == "insertion" else 1 - chosen)
        logits = torch.cat([classifier(batch) for batch in shown.split(batch_size)])
        followed.append(logits.softmax(1).gather(1, predicted[:, None])[:, 0])
    return torch.stack(followed, dim=1)


def patch_ranks(saliency: Tensor) -> Tensor:
    """Position of every patch when played, the most salient first: (B, h, w) int64. Ties go row by row.

    Examples:
        >>> patch_ranks(torch.tensor([[[0.1, 0.9], [0.5, 0.5]]])).tolist()
        [[[3, 0], [1, 2]]]
    """
    order = saliency.flatten(1).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1).view(saliency.shape)


def on_grid(saliency: Tensor, grid: tuple[int, int]) -> Tensor:
    """A map (B, h, w) averaged down, or repeated up, to another grid."""
    return adaptive_avg_pool2d(saliency[:, None], grid)[:, 0]


def filled(x: Tensor, filling: Filling, colour: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Tensor:
    """The image with nothing in it: one colour in [-1, 1], or all of it blurred (a Gaussian, `colour` beyond the border).

    `blur_as_released` blurs with the kernel that published numbers were made with, see `blur_kernel`.
    """
    empty = torch.tensor(colour).to(x).view(3, 1, 1)
    if filling == "zero":
        return empty.expand_as(x)
    kernel = blur_kernel(as_released=filling == "blur_as_released").to(x).expand(3, 1, 1, -1)
    margin = BLUR_SIDE // 2
    blurred = conv2d(x - empty, kernel, padding=(0, margin), groups=3)
    return conv2d(blurred, kernel.transpose(2, 3), padding=(margin, 0), groups=3) + empty


def blur_kernel(as_released: bool = False) -> Tensor:
    """The Gaussian of the games along one axis, 11 pixels wide, (11,), float64, sum 1; the image's is its outer square.

    The released code makes its kernel by blurring one pixel of an 11 x 11 image with scipy, which folds back what leaves the
    image: flatter than the Gaussian cut off at 11 pixels.

    Examples:
        The share of a pixel that stays where it is:

        >>> [round(float(blur_kernel(as_released)[5]) ** 2, 4) for as_released in (False, True)]
        [0.012, 0.0088]
    """
    if as_released:
        pixel = torch.zeros(BLUR_SIDE, dtype=torch.float64)
        pixel[BLUR_SIDE // 2] = 1
        return torch.from_numpy(gaussian_filter1d(pixel.numpy(), BLUR_SIGMA, mode="reflect"))
    places = torch.arange(BLUR_SIDE, dtype=torch.float64) - BLUR_SIDE // 2
    kernel = torch.exp(-(places**2) / (2 * BLUR_SIGMA**2))
    return kernel / kernel.sum()
