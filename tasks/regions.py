"""Where things show on images, as a user knows it: a folder `<name>/<file>.png`, black where it does not, by the image's path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cfx.errors import UserError
from cfx.images import MAX_PIXELS, decode_png, read_image

TRIED = 200  # images that a folder of masks is asked about before work


def names_in(folder: Path) -> list[str]:
    """What is known: the names of the folders in it."""
    return sorted(path.name for path in folder.glob("*") if path.is_dir())


def mask_warnings(folder: Path, files: Sequence[str]) -> tuple[str, ...]:
    """Parts that some of up to TRIED of these images lack. Raises UserError where the folder holds no mask of any of them."""
    parts, tried = names_in(folder), files[:: max(1, len(files) // TRIED)]
    lacking = {part: [file for file in tried if not _mask(folder, part, file).is_file()] for part in parts}
    if all(len(missing) == len(tried) for missing in lacking.values()):
        wanted = _mask(folder, parts[0] if parts else "subject", tried[0])
        raise UserError(f"{folder} holds no mask of any of {len(tried)} images tried; of {tried[0]} it should hold {wanted}")
    return tuple(
        f"masks: {len(missing)} of {len(tried)} images tried have no {part!r}, {missing[0]} for one; they take no part"
        for part, missing in lacking.items()
        if missing
    )


def _mask(folder: Path, part: str, file: str) -> Path:
    return (folder / part / file).with_suffix(".png")


def regions_in(folder: Path | None, files: Sequence[str], size: tuple[int, int]) -> dict[str, tuple[list[bool], Tensor]]:
    """By name: of which files the region is known, and where it shows, (N, *size) bool."""
    found = {}
    for name in names_in(folder) if folder is not None and files else ():
        paths = [_mask(folder, name, file) for file in files] if folder is not None else []
        known = [path.is_file() for path in paths]
        shown = torch.zeros(len(files), *size, dtype=torch.bool)
        for i, path in enumerate(paths):
            if known[i]:
                image = read_image(path.read_bytes(), size, MAX_PIXELS, 1)
                shown[i] = decode_png([image.png])[0].amax(0) > -1
        found[name] = known, shown
    return found
