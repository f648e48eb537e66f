"""Makes examples/digits: real handwritten threes and eights as PNG files, and a CSV of attributes measured from their strokes.

    python examples/digits.py

The digits are scikit-learn's (UCI Optical Recognition of Handwritten Digits, Alpaydin & Kaynak 1998, CC BY 4.0): 357 threes and
eights of 8 x 8 pixels, 17 grey levels, brought to 32 x 32. Only this script needs scikit-learn and SciPy; its output is kept.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits

from cfx.random import derived_seed

SIZE = 32
CLASSES = {3: "three", 8: "eight"}
TEST_SHARE = 0.25

Grey = NDArray[np.float64]  # (SIZE, SIZE) in [0, 1], ink is 1


def enlarge(digit: NDArray[np.float64]) -> NDArray[np.uint8]:
    """An (8, 8) digit of 0 .. 16 as (SIZE, SIZE) grey of 0 .. 255, white ink on black, a margin of one cell added around it."""
    image = Image.fromarray(np.pad(digit / 16 * 255, 1).astype(np.float32))
    return np.rint(np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)).clip(0, 255)).astype(np.uint8)


def slant(ink: Grey) -> float:
    """How far the strokes lean to the right: columns a row upwards, from the ink's second moments."""
    y, x = np.indices(ink.shape)
    right, down = x - np.average(x, weights=ink), y - np.average(y, weights=ink)
    return float(-(ink * right * down).sum() / (ink * down * down).sum())


def thickness(ink: Grey) -> float:
    """Mean stroke width in pixels: four times the mean distance to the stroke's edge, exact for a straight bar."""
    stroke = ink > 0.5
    return float(4 * ndimage.distance_transform_edt(stroke)[stroke].mean())


def width(ink: Grey) -> float:
    """Spread of the ink to both sides of its slanted axis: standard deviation in pixels."""
    y, x = np.indices(ink.shape)
    across = x + slant(ink) * y
    return float(np.sqrt(np.average((across - np.average(across, weights=ink)) ** 2, weights=ink)))


def holes(ink: Grey) -> float:
    """How many patches of background the strokes enclose."""
    return float(ndimage.label(ink <= 0.5)[1] - 1)  # the outside is one patch


MEASURES = {"slant": slant, "thickness": thickness, "width": width, "holes": holes}


def main() -> None:
    folder = Path(__file__).parent / "digits"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    chosen = [index for index, number in enumerate(digits.target) if number in CLASSES]
    images = {index: enlarge(digits.images[index]) for index in chosen}
    measured = {name: [measure(images[index] / 255) for index in chosen] for name, measure in MEASURES.items()}
    above = {name: np.array(values) > np.median(values) for name, values in measured.items()}
    with (folder / "attributes.csv").open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(["file", "split", "label", *MEASURES])
        for row, index in enumerate(chosen):
            name = f"{index:04d}.png"
            Image.fromarray(images[index]).save(folder / "images" / name, optimize=True)
            split = "test" if derived_seed("digits", index) < TEST_SHARE * 2**63 else "train"
            writer.writerow([name, split, CLASSES[digits.target[index]], *(int(above[name][row]) for name in MEASURES)])


if __name__ == "__main__":
    main()
