"""ImageFolder: a folder a class, below a folder a split if there are several; Hugging Face's metadata files count too."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from cfx.images import HEAD, SUFFIXES, is_image
from tasks.data.files import names_below, suffix_of
from tasks.data.formats.metadata import is_metadata, metadata_of, same_name
from tasks.data.formats.remarks import Remarks, listed
from tasks.data.formats.samples import images_alone
from tasks.data.formats.source import Source
from tasks.data.formats.splits import BOTH, split_level, split_named
from warehouse.facts.storage import Root

BATCH = 4096
TEXTS = {".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".yaml", ".yml", ".html", ".py", ".parquet", ".arrow", ".tar"}
_RAW = {".dng", ".cr2", ".nef", ".arw", ".orf", ".rw2", ".pef", ".srw"}  # TIFF by their first bytes


class Place(NamedTuple):
    """What an image's folders say."""

    split: str | None
    label: str | None


def folders(source: Source) -> Iterator[pa.Table]:
    """`<class>/x.png`, `<split>/<class>/x.png` or `<class>/<split>/x.png`; a metadata file with `file_name` says more.

    Raises UserError where folders or samples can be read in two ways, and `choices` does not say which.
    """
    files = list(names_below(source.folder, source.remarks.leave_out))
    metadata = metadata_of(source.folder, files)
    images = images_alone(image_names(source.folder, files, source.remarks), source)
    level = split_level(images, source)
    places = [_place(image, level) for image in images]
    _describe(images, places, level, source)
    names = sorted({name for row in metadata.values() for name in row} - {"file", "split", "label"})
    if metadata and (unknown := sum(same_name(image) not in metadata for image in images)):
        source.remarks.say(f"{unknown:,} images are in no metadata file")
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        known = [metadata.pop(same_name(file), {}) for file in batch]
        both = list(zip(known, places[start : start + BATCH], strict=True))
        columns: dict[str, list[str | None]] = {"file": list(batch)}
        columns["split"] = [row.get("split", place.split) for row, place in both]
        columns["label"] = [row.get("label", place.label) for row, place in both]
        columns |= {name: [row.get(name) for row in known] for name in names}
        yield pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    for image in metadata:
        source.remarks.leave_out(image, "in the metadata, but no image of the folder")


def image_names(folder: Root, files: list[str], remarks: Remarks) -> list[str]:
    """The images among the files, by their endings, and where these are of another kind or missing, by their first bytes."""
    images = []
    for file in files:
        ending = suffix_of(file)
        if ending in _RAW:
            remarks.leave_out(file, "raw files of a camera, to be exported as JPEG or PNG")
        elif ending in SUFFIXES or (ending not in TEXTS and is_image(_head(folder / file))):
            images.append(file)
        elif not is_metadata(file):
            remarks.leave_out(file, "not an image that is read")
    return images


def _head(path: Root) -> bytes:
    try:
        with path.open("rb") as file:
            return bytes(file.read(HEAD))
    except OSError:  # a link to nowhere, or without permission
        return b""


def _place(file: str, level: int | None) -> Place:
    parts = file.split("/")[:-1]
    split = split_named(parts[level]) if level is not None and len(parts) > level else None
    classes = parts if split is None or level is None else parts[:level] + parts[level + 1 :]
    return Place(split, unicodedata.normalize("NFC", classes[0]).strip() if classes else None)


def _describe(images: list[str], places: list[Place], level: int | None, source: Source) -> None:
    """Say how the folders were read."""
    remarks = source.remarks
    classes = sorted({place.label for place in places if place.label is not None})
    splits = sorted({place.split for place in places if place.split is not None})
    if images:
        remarks.say(
            f"folders read as {f'splits {listed(splits)} of ' if splits else ''}{len(classes)} classes: {listed(classes)}"
        )
    if level is None and (like := [name for name in classes if split_named(name)]):
        remarks.say(f"{listed(like)} taken as {'a class' if len(like) == 1 else 'classes'}, not as splits; {BOTH}")
    if (bare := sum(place.label is None for place in places)) and classes:
        remarks.say(f"{bare:,} images lie in no class folder and have no label of it")
    _describe_alike(images, places, remarks)


def _describe_alike(images: list[str], places: list[Place], remarks: Remarks) -> None:
    """Say which folders are one class though their bytes differ, and which are two though they look alike."""
    spelled: dict[str, set[str]] = defaultdict(set)
    for image, place in zip(images, places, strict=True):
        if place.label is not None:
            spelled[place.label].update(part for part in image.split("/")[:-1] if _same(part, place.label))
    for label, folders_of in spelled.items():
        if len(folders_of) > 1:
            remarks.say(f"{len(folders_of)} folders are called {label!r}, in different bytes: they are one class")
    lower = defaultdict(list)
    for label in sorted(spelled):
        lower[label.casefold()].append(label)
    for labels in lower.values():
        if len(labels) > 1:
            remarks.say(f"{listed(labels)} differ in case alone and are {len(labels)} classes")


def _same(folder: str, label: str) -> bool:
    return unicodedata.normalize("NFC", folder).strip() == label
