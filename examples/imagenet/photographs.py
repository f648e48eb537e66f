"""Lays out photographs that ship inside scikit-image, scikit-learn and matplotlib: three squares of each, and a table of them.

    python examples/imagenet/photographs.py

makes examples/imagenet/photographs/ and examples/imagenet/photographs.csv. Nothing is downloaded, and the photographs' licences
are those of their packages. The squares of one photograph lie at its ends and in its middle: they are not three photographs.
"""

from __future__ import annotations

import csv
from importlib.resources import files
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
SIDE = 256  # pixels; the network sees the central 224
MIDDLE = 0.7  # of the shorter side, of the square in the middle
PLACES = {
    "skimage/data": (
        "astronaut.png brick.png camera.png chelsea.png clock_motion.png coffee.png coins.png grass.png gravel.png "
        "hubble_deep_field.jpg moon.png motorcycle_left.png motorcycle_right.png retina.jpg rocket.jpg"
    ),
    "sklearn/datasets/images": "china.jpg flower.jpg",
    "matplotlib/mpl-data/sample_data": "grace_hopper.jpg",
}


def photographs() -> dict[str, Image.Image]:
    """Every photograph, RGB, by the name of its file."""
    found = {}
    for place, names in PLACES.items():
        package, _, folder = place.partition("/")
        for name in names.split():
            with (files(package) / folder / name).open("rb") as file:
                found[Path(name).stem] = Image.open(file).convert("RGB")
    return found


def squares(photograph: Image.Image) -> dict[str, Image.Image]:
    """The square at the one end of it, in the middle, and at the other end, each of SIDE x SIDE pixels."""
    width, height = photograph.size
    whole, part = min(width, height), round(MIDDLE * min(width, height))
    shift = 0.85 if width == height else 1.0  # the squares of a square photograph are smaller than it
    end = round(shift * whole)
    boxes = {
        "first": (0, 0, end, end),
        "middle": ((width - part) // 2, (height - part) // 2, (width + part) // 2, (height + part) // 2),
        "last": (width - end, height - end, width, height),
    }
    return {name: photograph.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box) for name, box in boxes.items()}


def lay_out(folder: Path, most: int | None = None) -> Path:
    """Write the squares, of so many photographs at most, and return the path of their table."""
    (folder / "photographs").mkdir(parents=True, exist_ok=True)
    with (folder / "photographs.csv").open("w", newline="") as lines:
        table = csv.writer(lines, lineterminator="\n")
        table.writerow(["file", "photograph"])
        for name, photograph in list(photographs().items())[:most]:
            for place, square in squares(photograph).items():
                square.save(folder / "photographs" / f"{name}-{place}.png")
                table.writerow([f"{name}-{place}.png", name])
    return folder / "photographs.csv"


if __name__ == "__main__":
    lay_out(HERE)
