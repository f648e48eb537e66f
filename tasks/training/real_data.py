"""Real images that packages ship: Fashion-MNIST and the solar cells of ELPV, read where they are installed, never copied.

Fashion-MNIST: Xiao, Rasul & Vollgraf 2017 (MIT). ELPV: Deitsch et al. 2019 (CC BY-NC-SA: for development only).
"""

from __future__ import annotations

import csv
import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfx.errors import UserError

FASHION = Path("/usr/share/datasets/fashion-mnist")  # where Debian puts it
CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot")
HEADER = {"images": 16, "labels": 8}  # bytes before the values of an idx file
CELLS = ("functional", "defective")
CELL_SIDE = 300  # pixels


class RealImages(NamedTuple):
    """Grey images (N, H, W) uint8 with the names of their classes and yes/no attributes, each (N,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.str_]
    attributes: dict[str, NDArray[np.bool_]]


@cache
def fashion(split: str = "train", folder: Path = FASHION) -> RealImages:
    """Fashion-MNIST's split `train` (60,000) or `t10k` (10,000), 28 x 28. Raises UserError where it is not installed."""
    files = {kind: folder / f"{split}-{kind}-idx{3 if kind == 'images' else 1}-ubyte.gz" for kind in HEADER}
    if not all(file.is_file() for file in files.values()):
        raise UserError(
            f"Fashion-MNIST is not in {folder}: `apt-get install dataset-fashion-mnist` (Debian, Ubuntu), or put its four .gz "
            "files there"
        )
    found = {kind: np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8)[HEADER[kind] :] for kind, file in files.items()}
    return RealImages(found["images"].reshape(-1, 28, 28), np.array(CLOTHES)[found["labels"]], {})


@cache
def solar_cells(side: int = CELL_SIDE) -> RealImages:
    """ELPV's cells that experts were sure about (probability of a defect 0 or 1), with the attribute `mono` (else poly).

    side: pixels; the files have 300. Raises UserError where the package is not installed.
    """
    spec = find_spec("elpv_dataset")
    if spec is None or spec.origin is None:
        raise UserError("the solar cells are not installed: `pip install --no-deps elpv-dataset` (CC BY-NC-SA, 91 MB)")
    data = Path(spec.origin).parent / "data"
    with (data / "labels.csv").open() as lines:
        rows = [row for row in csv.reader(lines, delimiter=" ", skipinitialspace=True) if row]
    sure = [(row[0], float(row[1]) > 0.5, row[2].strip() == "mono") for row in rows if float(row[1]) in (0, 1)]
    pixels = np.stack([_cell(data / name, side) for name, _, _ in sure])
    labels = np.array(CELLS)[[int(defective) for _, defective, _ in sure]]
    return RealImages(pixels, labels, {"mono": np.array([mono for _, _, mono in sure])})


def _cell(path: Path, side: int) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((side, side), Image.Resampling.LANCZOS))
