"""Masks of regions: PNG files, white where an image may change and black where not, one an image and of its size.

What is no such mask is refused with its file and the way out. An image without a mask, or with one that is all black or all
white at the size of the audit, takes no part in that region, and is listed among the rejected inputs.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from cfx.errors import UserError, did_you_mean
from cfx.images import BYTES_PER_PIXEL, MAX_PIXELS, Refused, decode_png, read_image, size_of
from cfx.targets import shortened
from tasks.config import AuditConfig, Region
from tasks.data.annotations import text_of
from tasks.data.files import is_inside, read
from tasks.data.ingest import DataConfig, selected

CHECKED = 1000  # images whose masks are read before work; the masks of more are, when their turn comes
Missing = Literal["no mask", "empty mask", "whole mask", "no saliency"]
ARTICLE: Mapping[Missing, str] = {"no mask": "", "empty mask": "an ", "whole mask": "a "}
WHY: Mapping[Missing, str] = {
    "no mask": "there is none",
    "empty mask": "black all over, so that nothing may change",
    "whole mask": "white all over, which is no region",
    "no saliency": "the classifier's map of it is the same everywhere",
}


class ImageFile(NamedTuple):
    """An image, by its path in the image folder, with its upright width and height in pixels."""

    path: str
    width: int
    height: int


class Masks:
    """The masks of one region: a folder of them, or a column of the table."""

    def __init__(self, name: str, source: Path | Region, data: DataConfig) -> None:
        self.name, self._source, self._data = name, source, data

    def content(self, path: str) -> tuple[str, bytes | None]:
        """The file of an image's mask, and its bytes, None without one."""
        if isinstance(self._source, Path):
            file = (self._source / path).with_suffix(".png")
            return str(file), file.read_bytes() if file.is_file() else None
        assert self._data.table is not None and self._source.column is not None
        cell = _column(self._data.table, self._data.file_column, self._source.column).get(path)
        if cell is None:
            return f"{self._data.table}, column {self._source.column!r}", None
        if not is_inside(cell):
            raise UserError(
                f"{self.name}: the mask {cell!r} of {path} is not below {self._data.images}; give it relative to that"
            )
        try:
            return cell, read(self._data.images, cell, MAX_PIXELS * BYTES_PER_PIXEL)
        except Refused as error:
            if error.reason == "missing":
                return cell, None
            raise UserError(f"{self.name}: the mask {cell} cannot be read: {error}") from error

    def of(self, image: ImageFile, size: tuple[int, int]) -> Tensor | Missing:
        """An image's mask at the audit's height and width, (1, H, W) bool, or why it has none.

        Raises UserError for a file that is no mask of it: of another size, grey, or no PNG.
        """
        file, content = self.content(image.path)
        if content is None:
            return "no mask"
        try:
            _check_black_and_white(content)
            if (found := size_of(content)) != (image.width, image.height):
                raise UserError(
                    f"it has {found[0]} x {found[1]} pixels and its image {image.path} {image.width} x {image.height}; a mask "
                    "has the size of its image's file: resize it without smoothing (nearest neighbour)"
                )
            shown = decode_png([read_image(content, size, MAX_PIXELS, 1, resample=self._data.resample).png])
        except (UserError, Refused) as error:
            raise UserError(f"{self.name}: the mask {file} cannot be used: {error}") from error
        mask = shown[0, :1] > 0
        return mask if mask.any() and not mask.all() else "whole mask" if mask.all() else "empty mask"


def _check_black_and_white(content: bytes) -> None:
    """Raises UserError for what is no PNG of black and white alone, Refused for what cannot be decoded."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as file:
            if file.has_transparency_data:
                raise UserError("it is transparent somewhere; save it as black and white, without transparency")
            deep = file.mode.startswith("I")
            values = np.unique(np.asarray(file if deep else file.convert("L")))
    except UserError:
        raise
    except Exception as error:  # whatever a decoder stumbles on
        raise Refused("unreadable", f"it is no PNG that can be read ({type(error).__name__}); save it as one") from error
    white = 65535 if deep else 255
    if not set(values.tolist()) <= {0, white}:
        odd = next(value for value in values.tolist() if value not in (0, white))
        way_out = (
            f"multiply it by {white}"
            if set(values.tolist()) <= {0, 1}
            else f"make every pixel 0 or {white}, such as by `image.convert('L').point(lambda v: 255 * (v > 127))` with Pillow"
        )
        raise UserError(f"it holds the value {odd}, and a mask is black (0) and white ({white}) alone: {way_out}")


@lru_cache(maxsize=4)
def _column(table: Path, files: str, column: str) -> dict[str, str]:
    """What a column of a table says of each file, where it says something."""
    text = text_of(table)
    if column not in text.column_names:
        meant = did_you_mean(column, text.column_names)
        raise UserError(f"{table} has no column {column!r}{meant}; it has {shortened(text.column_names)}")
    cells = zip(text[files].to_pylist(), text[column].to_pylist(), strict=True)
    return {file: cell.strip() for file, cell in cells if file and cell and cell.strip()}


def masks_of(config: AuditConfig) -> list[Masks]:
    """The regions of an audit that are files. Raises UserError for a folder that is not there, or a column without a table."""
    found = []
    for name, source in config.regions.items():
        if isinstance(source, Path) and not source.is_dir():
            raise UserError(f"{name}: there is no folder {source}; give one with a mask of each image, `<file>.png`")
        if isinstance(source, Region) and source.column is not None and config.data.table is None:
            raise UserError(f"{name}: column {source.column!r} is looked for in the table, and there is none; set `data.table`")
        if isinstance(source, Path) or source.column is not None:
            found.append(Masks(name, source, config.data))
    return found


def check_masks(config: AuditConfig) -> tuple[str, ...]:
    """What to say of images without a mask, of up to CHECKED of them. Raises UserError for a file that is no mask, and for a
    region that no image has."""
    if not (masks := masks_of(config)):
        return ()
    size = config.data.size if isinstance(config.data.size, tuple) else (config.data.size, config.data.size)
    files = [file for file in selected(config.data)["file"].to_pylist() if file]
    images = [image for file in files[:: max(1, -(-len(files) // CHECKED))] if (image := _image(config.data, file)) is not None]
    return tuple(line for one in masks for line in _lacking(one, images, size))


def _image(data: DataConfig, path: str) -> ImageFile | None:
    """An image's size; None of a file that the audit itself will reject."""
    try:
        return ImageFile(path, *size_of(read(data.images, path, data.max_pixels * BYTES_PER_PIXEL)))
    except (Refused, OSError):
        return None


def _lacking(masks: Masks, images: Sequence[ImageFile], size: tuple[int, int]) -> list[str]:
    found = {image.path: masks.of(image, size) for image in images}
    lacking: dict[Missing, list[str]] = {}
    for path, mask in found.items():
        if not isinstance(mask, Tensor):
            lacking.setdefault(mask, []).append(path)
    if images and sum(map(len, lacking.values())) == len(images):
        why, paths = max(lacking.items(), key=lambda one: len(one[1]))
        file, _ = masks.content(paths[0])
        raise UserError(f"{masks.name}: no image has a mask that can be used; of {paths[0]} it would be {file}: {WHY[why]}")
    return [
        f"regions: {len(paths)} of {len(images)} images looked at have {ARTICLE[why]}{why} of {masks.name!r}, {paths[0]} for "
        "one; they take no part there"
        for why, paths in lacking.items()
    ]


def fingerprint(config: AuditConfig) -> str | None:
    """SHA-256 over the masks of the images selected, whatever they are called; None without any."""
    if not (masks := masks_of(config)):
        return None
    digest = hashlib.sha256()
    for one in masks:
        digest.update(f"\0{one.name}".encode())
        for file in selected(config.data)["file"].to_pylist():
            _, content = one.content(file) if file else ("", None)
            digest.update(b"\0" if content is None else hashlib.sha256(content).digest())
    return digest.hexdigest()
