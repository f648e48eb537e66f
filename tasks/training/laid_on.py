"""Changes that are laid on an image: what a source of images may do to all of its own. Pixels are (H, W, 3) uint8."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]


def as_pixels(values: NDArray[np.float64]) -> Pixels:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def warmed(pixels: Pixels, amount: float) -> Pixels:
    """Red by 1 + .12 amount, blue by 1 - .14 amount."""
    return as_pixels(pixels * np.array([1 + 0.12 * amount, 1.0, 1 - 0.14 * amount]))


def blurred(pixels: Pixels, radius: float) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def gained(pixels: Pixels, gain: float) -> Pixels:
    return as_pixels(pixels * np.float64(gain))


def tagged(pixels: Pixels, brightness: float) -> Pixels:
    """A bright tag of 5 x 7 pixels of 64, a pixel off the lower right corner."""
    height, width, off = (max(least, round(share * len(pixels) / 64)) for least, share in ((3, 5), (4, 7), (1, 1)))
    with_tag = pixels.copy()
    with_tag[-height - off : -off, -width - off : -off] = round(brightness)
    return with_tag


def banded(pixels: Pixels, opacity: float) -> Pixels:
    """A translucent white band of 6 pixels of 64 along the left side."""
    width = max(3, round(6 * len(pixels) / 64))
    with_band = pixels.astype(np.float64)
    with_band[:, :width] += opacity * (255 - with_band[:, :width])
    return as_pixels(with_band)
