"""A folder of images, looked at: how many, how large, grey or not, in which classes, how alike they are framed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfx.errors import UserError
from cfx.evidence.transplant import framing
from cfx.images import MAX_PIXELS, Refused, decode_png, read_image
from tasks.data.drawing import drawn
from tasks.data.files import WHOLES, names_below, suffix_of
from tasks.data.formats.folders import image_names
from tasks.data.formats.remarks import Remarks
from tasks.data.formats.splits import split_named

LOOKED_AT = 200  # files that are opened, drawn by chance
SIDE = 64  # pixels that framing is judged at
SMALLEST = 8  # pixels of a side, as `data.min_side`
ALIKE = 0.5  # framing from which on a place means the same in most images


@dataclass(frozen=True)
class ImagesFound:
    """The images below a folder. sizes, channels, unreadable and framing are of the files that were opened."""

    folder: Path
    files: tuple[str, ...]  # relative to the folder, sorted
    opened: int
    sizes: dict[tuple[int, int], int]  # (width, height) -> files
    channels: int  # 1 where all are grey
    classes: dict[str, int]  # by the folder that a file lies in; empty for a flat folder
    unreadable: dict[str, str]  # file -> why
    framing: float  # 0 to 1

    @property
    def side(self) -> int:
        """The median of the shorter sides, pixels."""
        return int(np.median([min(size) for size, n in self.sizes.items() for _ in range(n)]))

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "folder": str(self.folder),
            "count": len(self.files),
            "opened": self.opened,
            "sizes": {f"{width} x {height}": n for (width, height), n in self.sizes.items()},
            "channels": self.channels,
            "classes": self.classes,
            "unreadable": self.unreadable,
            "framing": round(self.framing, 3),
        }

    def lines(self) -> list[str]:
        """For people."""
        sizes = [f"{width} x {height}" for width, height in self.sizes]
        shown = ", ".join(sizes[:3]) + (f" and {len(sizes) - 3} other sizes" if len(sizes) > 3 else "")
        said = [f"images: {len(self.files):,} files, {shown}, {'grey' if self.channels == 1 else 'colour'}"]
        if self.classes:
            named = [f"{n:,} {name}" for name, n in list(self.classes.items())[:8]]
            said.append(f"classes by folder: {', '.join(named)}{', …' if len(self.classes) > 8 else ''}")
        way = "a place means the same in most" if self.framing >= ALIKE else "a place means little: properties tell more"
        return [*said, f"framing: {self.framing:.2f} alike ({way})"]

    def warnings(self) -> list[str]:
        """What to mend before an audit."""
        if not self.unreadable:
            return []
        first = next(iter(self.unreadable.items()))
        return [f"images: {len(self.unreadable)} of {self.opened} files opened cannot be read, such as {first[0]} ({first[1]})"]


def look_at_images(folder: Path) -> ImagesFound:
    """Open some of the images below a folder. Raises UserError where there are none, or where none can be read."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give the folder of your images")
    remarks = Remarks()
    below = names_below(folder, remarks.leave_out)
    files = sorted(name for name in image_names(folder, below, remarks))
    if not files:
        packed = next((name for name in below if suffix_of(name) in WHOLES), None)
        way_out = f"; for images inside {packed}: cfx import-data" if packed else ""
        raise UserError(f"{folder} holds no image ({len(below)} other files); give the folder of your images{way_out}")
    tried = [files[at] for at in drawn(files, [_class_of(name) for name in files], LOOKED_AT)]
    pixels, sizes, unreadable = [], Counter[tuple[int, int]](), dict[str, str]()
    for name in tried:
        try:
            image = read_image((folder / name).read_bytes(), SIDE, MAX_PIXELS, SMALLEST)
        except (Refused, OSError) as error:
            unreadable[name] = str(error)
            continue
        sizes[(image.width, image.height)] += 1
        pixels.append(((decode_png([image.png])[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
    if not pixels:
        name, why = next(iter(unreadable.items()))
        raise UserError(f"none of {len(tried)} files of {folder} can be read, such as {name} ({why}); mend the files")
    grey = all(_is_grey(image) for image in pixels)
    counts = Counter(_class_of(name) for name in files)
    classes = {} if len(counts) < 2 or None in counts else dict(sorted((str(name), n) for name, n in counts.items()))
    by_size = dict(sizes.most_common())
    return ImagesFound(
        folder, tuple(files), len(tried), by_size, 1 if grey else 3, classes, unreadable, framing(np.stack(pixels))
    )


def _class_of(name: str) -> str | None:
    """The folder that a file lies in, those of splits left out."""
    return next((part for part in name.split("/")[:-1] if split_named(part) is None), None)


def _is_grey(image: NDArray[np.uint8]) -> bool:
    return bool((image == image[..., :1]).all())
