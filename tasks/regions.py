"""Where things show on images, as a user knows it: a folder `<name>/<file>.png`, black where it does not, by the image's path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cfx.errors import UserError
from cfx.images import MAX_PIXELS, decode_png, read_image


def names_in(folder: Path) -> list[str]:
    """What is known: the names of the folders in it."""
    return sorted(path.name for path in folder.glob("*") if path.is_dir())


def check_masks(folder: Path) -> None:
    """Raises UserError where a folder of masks holds none."""
    if not any(folder.glob("*/**/*.png")):
        raise UserError(f"{folder} holds no mask; it should hold `<part>/<file>.png`, say subject/0001.png")


def regions_in(folder: Path | None, files: Sequence[str], size: tuple[int, int]) -> dict[str, tuple[list[bool], Tensor]]:
    """By name: of which files the region is known, and where it shows, (N, *size) bool."""
    found = {}
    for name in names_in(folder) if folder is not None and files else ():
        paths = [(folder / name / file).with_suffix(".png") for file in files] if folder is not None else []
        known = [path.is_file() for path in paths]
        shown = torch.zeros(len(files), *size, dtype=torch.bool)
        for i, path in enumerate(paths):
            if known[i]:
                image = read_image(path.read_bytes(), size, MAX_PIXELS, 1)
                shown[i] = decode_png([image.png])[0].amax(0) > -1
        found[name] = known, shown
    return found
