"""Measured properties: what a photographer could have changed, as numbers of the image itself, without any model.

Each property has a function of the image's 8-bit pixels. A classifier that leans on one of them leans on no attribute that
anybody named: a colour cast, the compression of one source of files, a frame, the side of the light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.ndimage import convolve
from skimage.filters import threshold_otsu
from skimage.measure import blur_effect, inertia_tensor, moments_central

from cfx.errors import UserError

Pixels = NDArray[np.uint8]  # (H, W, C) of 1 or 3 channels
Plane = NDArray[np.float64]  # (H, W)

# Name -> unit and meaning, in the order of every table of properties.
PROPERTIES: Mapping[str, str] = MappingProxyType(
    {
        "brightness": "mean luma, 0 black to 1 white",
        "contrast": "standard deviation of luma, 0 to 0.5",
        "gamma": "log2 of (1 - m) / m, m the median luma between the 2nd and 98th percentile: above 0 dark mid-tones",
        "saturation": "mean saturation (HSV), 0 grey to 1",
        "warmth": "log2 of mean red over mean blue: above 0 warm, below cool",
        "greenness": "log2 of mean green over the geometric mean of red and blue: above 0 green, below magenta",
        "sharpness": "1 - blur effect (Crete et al. 2007): 0 blurred to 1 sharp",
        "noise": "standard deviation of grain (Immerkaer 1996), luma of 0 to 1",
        "compression": "log2 of empty 8 x 8 cosine coefficients on the own grid over those on a moved one: above 0 JPEG's traces",
        "border": "mean luma of the outermost 3 % minus that of the 3 % inside them, -1 to 1",
        "vignette": "log2 of the luma half way along the edges over that of the corners: above 0 dark corners",
        "light_x": "rise of luma from left to right, share of the mean, halves: above 0 lit from the right",
        "light_y": "rise of luma from top to bottom, share of the mean, halves: above 0 lit from below",
        "corner": "distance of a corner's mean colour to the nearer of its two neighbours', the largest of four, 0 to 1.7 (RGB)",
        "stamp": "log2 of the finest detail in a tile of the rim over the median tile's: print or a logo at an edge",
        "subject_x": "centre of what differs from the border's colour, -1 left to 1 right",
        "subject_y": "the same, -1 top to 1 bottom",
        "subject_scale": "side of what differs from the border's colour (Otsu's threshold), share of the image's",
        "subject_tilt": "direction of its longer axis against the upright, degrees, above 0 clockwise; near 0 where it has none",
        "asymmetry": "mean difference from the own mirror image over the contrast",
    }
)
FILE_FACTS: Mapping[str, str] = MappingProxyType(
    {
        "aspect": "log2 of width over height, of the file as it came",
        "pixels": "log2 of its number of pixels",
        "bits_per_pixel": "log2 of its bits a pixel",
    }
)
GRAIN = 1 / 255  # one step of the 8-bit scale: below it nothing is measured
RIM = 1 / 32  # width of the border, share of the shorter side; 2 of 64 pixels
LINES = np.outer([1, -2, 1], [1, -2, 1])  # Immerkaer's mask: ramps and straight edges cancel, grain and fine print do not
LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601


def properties(image: Pixels) -> dict[str, float]:
    """Every one of PROPERTIES, measured on an image (H, W, C) uint8 of 1 or 3 channels; finite even for a constant image.

    Raises UserError for another type, number of channels, or a side under 16 pixels.

    Examples:
        >>> grey = np.full((32, 32, 3), 128, np.uint8)
        >>> measured = properties(grey)
        >>> [round(measured[name], 3) for name in ("brightness", "contrast", "warmth")]
        [0.502, 0.0, 0.0]
    """
    _check(image)
    rgb = np.broadcast_to(image, (*image.shape[:2], 3)) / 255.0
    luma = rgb @ LUMA
    values = _exposure(luma) | _colour(rgb) | _detail(luma) | _shading(luma) | _rim(rgb, luma) | _subject(rgb)
    values["asymmetry"] = float(np.abs(luma - luma[:, ::-1]).mean() / (luma.std() + GRAIN))
    return {name: float(values[name]) for name in PROPERTIES}


def property_table(images: Sequence[Pixels] | Pixels) -> NDArray[np.float64]:
    """`properties` of several images: (N, len(PROPERTIES)) in the order of PROPERTIES."""
    return np.array([list(properties(image).values()) for image in images]).reshape(-1, len(PROPERTIES))


def file_facts(width: int, height: int, file_bytes: int) -> dict[str, float]:
    """FILE_FACTS of a file of that width and height in pixels and size in bytes. Raises UserError below 1."""
    if min(width, height, file_bytes) < 1:
        raise UserError(f"a file of {width} x {height} pixels and {file_bytes} bytes; each must be 1 or more")
    pixels = width * height
    return {
        "aspect": float(np.log2(width / height)),
        "pixels": float(np.log2(pixels)),
        "bits_per_pixel": float(np.log2(8 * file_bytes / pixels)),
    }


def _check(image: Pixels) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or min(image.shape[:2]) < 16:
        raise UserError(
            f"an image of shape {image.shape} and type {image.dtype}; properties are measured on (height, width, 1 or 3) uint8, "
            "each side 16 pixels or more"
        )


def _exposure(luma: Plane) -> dict[str, float]:
    low, middle, high = np.quantile(luma, (0.02, 0.5, 0.98))
    share = np.clip((middle - low + GRAIN / 2) / (high - low + GRAIN), 0.02, 0.98)
    return {"brightness": luma.mean(), "contrast": luma.std(), "gamma": np.log2((1 - share) / share)}


def _colour(rgb: NDArray[np.float64]) -> dict[str, float]:
    red, green, blue = rgb.mean((0, 1)) + GRAIN
    return {
        "saturation": ((rgb.max(2) - rgb.min(2)) / (rgb.max(2) + GRAIN)).mean(),
        "warmth": np.log2(red / blue),
        "greenness": np.log2(green / np.sqrt(red * blue)),
    }


def _detail(luma: Plane) -> dict[str, float]:
    blur = blur_effect(luma) if np.ptp(luma) > GRAIN else 1.0  # of a constant image: 0 / 0
    return {"sharpness": 1 - blur, "noise": _noise(luma), "compression": _compression(luma)}


def _noise(luma: Plane) -> float:
    """The median, not Immerkaer's mean, keeps lines out (x 1.4826: Gaussian)."""
    return float(np.median(np.abs(convolve(luma, LINES)[1:-1, 1:-1])) * 1.4826 / 6)


def _compression(luma: Plane) -> float:
    """An image that was a JPEG has block spectra with many zeros on its own grid, but not on one moved by 4 pixels."""
    kept, moved = (_small_coefficients(luma[start:, start:]) for start in (0, 4))
    return float(np.log2((kept + 0.01) / (moved + 0.01)))


def _small_coefficients(luma: Plane) -> float:
    """Share of the coefficients of 8 x 8 cosine transforms, but the mean's, that are under one step of the 8-bit scale."""
    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    blocks = luma[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).swapaxes(1, 2)
    spectrum = np.abs(dctn(blocks, axes=(2, 3), norm="ortho"))
    return float((spectrum < 2 * GRAIN).mean())


def _shading(luma: Plane) -> dict[str, float]:
    """Least squares of the luma inside the border on x and y, in half sides from the centre; corners against edges."""
    rim = _rim_width(luma.shape)
    inside = luma[rim:-rim, rim:-rim]
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in inside.shape), indexing="ij")
    design = np.stack([np.ones(inside.size), x.ravel(), y.ravel()], axis=1)
    _, right, down = np.linalg.lstsq(design, inside.ravel(), rcond=None)[0] / (luma.mean() + GRAIN)
    return {"light_x": right, "light_y": down, "vignette": _vignette(inside)}


def _vignette(inside: Plane) -> float:
    """Medians over the four corners and the four middles, each an eighth of the sides, so that one subject at an edge or one
    stamp in a corner does not count."""
    height, width = (max(2, side // 8) for side in inside.shape)
    top, left = ((side - part) // 2 for side, part in zip(inside.shape, (height, width), strict=True))
    corners = [inside[rows, columns].mean() for rows in _ends(height) for columns in _ends(width)]
    middles = [inside[rows, left : left + width].mean() for rows in _ends(height)]
    middles += [inside[top : top + height, columns].mean() for columns in _ends(width)]
    return float(np.log2((np.median(middles) + GRAIN) / (np.median(corners) + GRAIN)))


def _rim_width(shape: tuple[int, ...]) -> int:
    return max(1, round(min(shape) * RIM))


def _rim(rgb: NDArray[np.float64], luma: Plane) -> dict[str, float]:
    rim = _rim_width(luma.shape)
    frame, ring = _ring(luma, 0, rim), _ring(luma, rim, rim)
    tiles = np.array([np.abs(convolve(tile, LINES)).mean() for tile in _edge_tiles(luma, rim)]) + GRAIN
    return {
        "border": frame.mean() - ring.mean(),
        "corner": _corner(rgb, rim),
        "stamp": np.log2(tiles.max() / np.median(tiles)),
    }


def _ring(plane: Plane, inset: int, width: int) -> Plane:
    """The pixels of the square ring that starts `inset` pixels from the rim."""
    height, across = plane.shape
    mask = np.zeros(plane.shape, np.bool_)
    mask[inset : height - inset, inset : across - inset] = True
    mask[inset + width : height - inset - width, inset + width : across - inset - width] = False
    return plane[mask]


def _corner(rgb: NDArray[np.float64], rim: int) -> float:
    """The nearer neighbour, so that neither a ramp across the image nor a subject that reaches one edge counts."""
    inner = rgb[rim:-rim, rim:-rim]  # a frame is no stamp
    height, width = (max(2, side // 8) for side in inner.shape[:2])
    distances = []
    for turned in (inner, inner[::-1], inner[:, ::-1], inner[::-1, ::-1]):
        corner = turned[:height, :width].mean((0, 1))
        beside, below = turned[:height, width : 2 * width].mean((0, 1)), turned[height : 2 * height, :width].mean((0, 1))
        distances.append(min(np.linalg.norm(corner - beside), np.linalg.norm(corner - below)))
    return float(max(distances))


def _ends(length: int) -> tuple[slice, slice]:
    return slice(None, length), slice(-length, None)


def _edge_tiles(luma: Plane, rim: int) -> list[Plane]:
    """A quarter of each side, an eighth deep, inside the border: 16 tiles along the rim, corners twice."""
    inner = luma[rim:-rim, rim:-rim]
    height, width = inner.shape
    deep, wide = max(4, height // 8), max(4, width // 8)
    columns = [slice(i * width // 4, (i + 1) * width // 4) for i in range(4)]
    rows = [slice(i * height // 4, (i + 1) * height // 4) for i in range(4)]
    lying = [inner[end, column] for end in _ends(deep) for column in columns]
    return lying + [inner[row, end] for end in _ends(wide) for row in rows]


def _subject(rgb: NDArray[np.float64]) -> dict[str, float]:
    """Moments of the distance of each pixel's colour from the border's median colour: where, how large, how tilted."""
    rim = _rim_width(rgb.shape[:2])
    inner = rgb[rim:-rim, rim:-rim]
    ring = np.concatenate([inner[:rim].reshape(-1, 3), inner[:, :rim].reshape(-1, 3), inner[:, -rim:].reshape(-1, 3)])
    weight = np.linalg.norm(inner - np.median(ring, axis=0), axis=2) + GRAIN / 10  # of a constant image: the whole frame
    height, width = weight.shape
    y, x = (weight.sum(1 - axis) @ np.arange(side) / weight.sum() for axis, side in enumerate(weight.shape))
    moments = moments_central(weight, center=(y, x), order=2)
    tensor = inertia_tensor(weight, mu=moments)  # [[mu02, -mu11], [-mu11, mu20]] / mu00
    # arctan2 is unsteady where both axes are alike; damped by how far they differ, it passes through 0 there
    across, along, both = tensor[0, 0], tensor[1, 1], -tensor[0, 1]
    lean = np.degrees(-both / (abs(across - along) + np.trace(tensor) / 10))
    return {
        "subject_x": 2 * x / (width - 1) - 1,
        "subject_y": 2 * y / (height - 1) - 1,
        "subject_scale": np.sqrt((weight > threshold_otsu(weight)).mean()) if np.ptp(weight) > GRAIN else 0,
        "subject_tilt": lean,
    }
