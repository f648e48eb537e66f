"""Masks of the demo's portraits, where eyes, mouth and background are, for examples/regions.yaml.

    .venv/bin/cfx demo && .venv/bin/python examples/regions.py && .venv/bin/cfx audit examples/regions.yaml

A portrait's mouth is where a smile would show or vanish, its eyes where glasses would, both with two pixels around; its
background is where the background's colour shows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from cfx.portraits import draw, region
from flows.demo import SEED

SHOWN_BY = {"eyes": "glasses", "mouth": "smile", "background": "warm_background"}
AROUND = ImageFilter.MaxFilter(5)


def write_masks(folder: Path) -> int:
    """folder/masks/<part>/<file>.png for every portrait in folder/images; how many portraits there are."""
    files = sorted((folder / "images").glob("*.png"))
    for part in SHOWN_BY:
        (folder / "masks" / part).mkdir(parents=True, exist_ok=True)
    for file, (_, portrait) in zip(files, draw(len(files), SEED), strict=True):
        for part, attribute in SHOWN_BY.items():
            mask = Image.fromarray(region(portrait, attribute).astype(np.uint8) * 255)
            (mask if part == "background" else mask.filter(AROUND)).save(folder / "masks" / part / file.name)
    return len(files)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("cfx-demo/portraits"))
    print(write_masks(parser.parse_args().folder), "portraits")  # noqa: T201
