"""What a preprocessor makes of images, found by showing it a few: whatever its settings are called, its network sees this."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfx.errors import UserError

HEIGHT, WIDTH = 512, 1024  # of the images shown, twice as wide as high: one that is cut out differs from one that is squeezed
CLOSE = 1e-3  # of the values that a preprocessor makes: half of an 8-bit step is 2e-3
SQUEEZED = 0.75  # between the half of the width that a central square has, and all of it

Array = NDArray[np.float64]
Process = Callable[[Image.Image], Array]  # RGB to (3, h, w)


class Seen(NamedTuple):
    """What a network sees of an image."""

    input_size: int  # side, pixels
    mean: tuple[float, ...]  # of RGB in [0, 1]
    std: tuple[float, ...]
    crop: float  # share of the side of the central square that is left
    squeezes: bool  # whether images that are not square are squeezed, not cut
    bgr: bool  # whether the channels come in the order blue, green, red


def seen_through(process: Process) -> Seen:
    """What `process` does. Raises UserError for what is not a square, or not a fixed gain and offset of each channel."""
    black, white = (process(_plain(value)) for value in (0, 255))
    if black.ndim != 3 or black.shape[0] != 3 or black.shape[1] != black.shape[2]:
        raise UserError(f"its preprocessor makes {black.shape} of an image; three channels of a square are needed")
    channels = [np.asarray(process(_plain(255, channel))).mean((1, 2)) for channel in range(3)]
    low, high = black.mean((1, 2)), white.mean((1, 2))
    bgr = bool(channels[0][2] - low[2] > channels[0][0] - low[0])
    order = [2, 1, 0] if bgr else [0, 1, 2]
    gain = (high - low)[order]
    if not _is_linear(process, low, high) or min(gain) <= 0:
        raise UserError(
            "its preprocessor does more than to subtract a mean and to divide by a std: set `input_size`, `mean`, `std`"
        )
    side = black.shape[-1]
    ramp = process(_ramp())[order[0]]
    share = float(np.polyfit(np.arange(side - 2), ramp.mean(0)[1:-1], 1)[0]) / gain[0] * side  # of the width; its ends may ring
    squeezes = bool(share > SQUEEZED)
    crop = share if squeezes else share * WIDTH / HEIGHT
    whole = max(round(side / crop), side)  # pixels of the side before it is cropped
    mean, std = -low[order] / gain, 1 / gain
    return Seen(side, _rounded(mean), _rounded(std), side / whole, squeezes, bgr)


def _plain(value: int, channel: int | None = None) -> Image.Image:
    """An image of one colour: grey, or one channel of this value."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[..., slice(None) if channel is None else channel] = value
    return Image.fromarray(pixels)


def _ramp() -> Image.Image:
    """From black on the left to white on the right."""
    values = np.linspace(0, 255, WIDTH).round().astype(np.uint8)
    return Image.fromarray(np.broadcast_to(values[None, :, None], (HEIGHT, WIDTH, 3)).copy())


def _is_linear(process: Process, low: Array, high: Array) -> bool:
    middle = process(_plain(102)).mean((1, 2))  # 0.4 of white
    return bool(np.abs(middle - (0.6 * low + 0.4 * high)).max() < CLOSE * max(1, np.abs(high - low).max()))


def _rounded(values: Array) -> tuple[float, ...]:
    """To the digits that single precision keeps."""
    return tuple(round(float(value), 5) for value in values)
