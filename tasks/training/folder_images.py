"""The images of a folder that a prior is trained on: which files they are, and whether they can be read, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cfx.errors import UserError
from cfx.images import Refused
from tasks.data.files import names_below
from tasks.data.formats.folders import image_names
from tasks.data.formats.remarks import Remarks
from tasks.data.formats.samples import images_alone
from tasks.data.formats.source import Choices, Source
from tasks.training.batches import read_square

TRIED = 64  # files that are read before a training begins
MOST_REFUSED = 0.5  # of those tried; above, it does not begin


class FolderImages(NamedTuple):
    """Files of images, how many of their 16 bits are used where they do not say it, and what was left out (a line a reason)."""

    files: list[Path]
    bits: int | None = None
    left_out: tuple[str, ...] = ()


def folder_images(folder: Path, image_key: tuple[str, ...] = (), bits: int | None = None) -> FolderImages:
    """The images below a folder, sorted; files of systems are none.

    Raises UserError where there are none, where a sample has several (an image and its mask) and `image_key` does not say which
    counts, and where more than half of up to 64 of them, spread evenly, cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give a folder of images")
    remarks = Remarks()
    names = image_names(folder, names_below(folder, remarks.leave_out), remarks)
    files = sorted(folder / name for name in images_alone(names, Source(folder, Choices(image_key), remarks)))
    if not files:
        rest = f"; left out: {'; '.join(map(str, remarks.left_out()))}" if remarks.counts else ""
        raise UserError(f"no image to train on: {folder} has no file that is one{rest}")
    _try(files, bits)
    return FolderImages(files, bits, tuple(map(str, remarks.left_out())))


def _try(files: list[Path], bits: int | None) -> None:
    tried = files[:: max(1, len(files) // TRIED)][:TRIED]
    refused = [reason for file in tried if (reason := _why_not(file, bits))]
    if len(refused) > MOST_REFUSED * len(tried):
        raise UserError(f"{len(refused)} of {len(tried)} files tried cannot be read: {'; '.join(refused[:3])}; mend the files")


def _why_not(file: Path, bits: int | None) -> str | None:
    try:
        read_square(file, 8, bits)
    except (Refused, OSError) as error:
        return f"{file.name} ({error})"
    return None
