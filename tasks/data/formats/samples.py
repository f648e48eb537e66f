"""Which files belong to one sample: an image and its mask, an input and its output, an image and its text.

The key of a file is what tells it from the others of its sample: `jpg` of 0001.jpg, `mask.png` of 0001_mask.png, `seg.png` of
0001.seg.png, `input.png` of 0001/input.png.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from cfx.errors import UserError
from tasks.data.formats.remarks import listed
from tasks.data.formats.source import Source

_ROLES = (
    "masks?|segs?|segm|segmentation|seg[-_]?mask|gt|ground[-_]?truth|labels?|annotations?|trimap|matte|alpha|depth|edges|"
    "inputs?|outputs?|targets?|images?|img|rgb|orig|original"
)
_WHOLE, _LAST = re.compile(_ROLES, re.I), re.compile(rf"(.+)[-_. ]+({_ROLES})", re.I)
_BESIDE = re.compile("(masks?|segm?|segmentations?|labels?|annotations?|gt|ground[-_]?truth|outputs?|targets?)", re.I)
_ORIGINALS = re.compile("(images?|imgs?|inputs?|originals?)", re.I)


def sample_of_file(name: str) -> tuple[str, str, bool]:
    """The sample that a file belongs to, its key there, and whether its name says that it is a part of a sample.

    Examples:
        >>> sample_of_file("cat/a.jpg"), sample_of_file("cat/a_mask.png"), sample_of_file("cat/7/input.png")
        (('cat/a', 'jpg', False), ('cat/a', 'mask.png', True), ('cat/7/', 'input.png', True))
    """
    path = PurePosixPath(name)
    return _sample(path, path.stem, path.suffix.removeprefix("."))


def sample_of_member(name: str) -> tuple[str, str, bool]:
    """Likewise of a member of a tar, where a sample's name ends at the first dot, as WebDataset has it."""
    path = PurePosixPath(name)
    stem, _, ending = path.name.partition(".")
    return _sample(path, stem, ending)


def _sample(path: PurePosixPath, stem: str, ending: str) -> tuple[str, str, bool]:
    place = "" if str(path.parent) == "." else f"{path.parent}/"
    if _WHOLE.fullmatch(stem):
        return place, path.name.lower(), True
    if found := _LAST.fullmatch(stem):
        return place + found[1], f"{found[2]}.{ending}".lower(), True
    return place + stem, ending.lower(), False


def chosen(sample: str, images: Mapping[str, str], image_key: tuple[str, ...]) -> str | None:
    """The image of a sample, of those that it has by key: the first one wanted, or None. Raises UserError for several."""
    if image_key:
        return next((images[key.lower()] for key in image_key if key.lower() in images), None)
    if len(images) > 1:
        raise UserError(_which(sample, sorted(images)))
    return next(iter(images.values()), None)


def images_alone(names: list[str], source: Source) -> list[str]:
    """The images of a folder that are no part of another one's sample; with `image_key`, those of these keys.

    Raises UserError for samples of several images.
    """
    keys, remarks = [key.lower() for key in source.choices.image_key], source.remarks
    if keys:
        kept = [name for name in names if sample_of_file(name)[1] in keys]
        for name in set(names).difference(kept):
            remarks.leave_out(name, "of another key than --image-key")
        return kept
    _check_folders(names, source)
    samples: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for name in names:
        sample, key, is_part = sample_of_file(name)
        samples[sample].append((key, is_part))
    several = {sample: parts for sample, parts in samples.items() if len(parts) > 1}
    for sample, parts in several.items():
        if any(is_part for _, is_part in parts):
            raise UserError(_which(sample, [key for key, _ in parts]))
    twins = sum(map(len, several.values()))
    if twins * 2 >= len(names) > 2:
        sample, parts = next(iter(several.items()))
        raise UserError(_which(sample, [key for key, _ in parts]))
    if several:
        remarks.say(f"{len(several)} names stand for images of several endings, each of its own: {listed(list(several))}")
    return names


def _check_folders(names: Iterable[str], source: Source) -> None:
    """Raises UserError for folders `images` and `masks` side by side."""
    below: dict[str, set[str]] = defaultdict(set)
    for name in names:
        parts = name.split("/")
        for depth in range(len(parts) - 1):
            below["/".join(parts[:depth])].add(parts[depth])
    for place, folders in below.items():
        originals = [folder for folder in folders if _ORIGINALS.fullmatch(folder)]
        others = [folder for folder in folders if _BESIDE.fullmatch(folder)]
        if others and len(originals) == 1 and len(folders) == len(others) + 1:
            where = source.folder / place if place else source.folder
            raise UserError(
                f"{where}: {listed(sorted(folders))} look like parts of the same samples, not classes; move the images of "
                f"{others[0]!r} elsewhere, or import {originals[0]!r} alone"
            )


def _which(sample: str, keys: list[str]) -> str:
    options = ", ".join(keys[:6])
    return f"the sample {sample!r} has several images ({options}); --image-key {keys[0]} takes that one of each sample"
