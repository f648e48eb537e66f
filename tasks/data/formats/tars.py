"""WebDataset: tars in which the files of one sample lie side by side, named alike up to the first dot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from tasks.data.files import Tar, names_below, walk
from tasks.data.formats.folders import BATCH, SPLITS
from tasks.training.batches import SUFFIXES
from warehouse.facts.storage import Root

_TEXT = (".cls", ".cls.txt", ".txt")


def tars(folder: Root) -> Iterator[pa.Table]:
    """A row a sample that has an image. `label` is its .cls (or .txt); the plain values of its .json are columns of their own.

    Columns are those of the first sample. The split is what a tar's name begins with, or its folder's is.
    """
    names: list[str] | None = None
    batch: list[dict[str, str | None]] = []
    for name in names_below(folder):
        if not name.endswith(".tar"):
            continue
        for sample in _samples(folder / name, name):
            names = names or [key for key in sample if key not in ("file", "split", "label")]
            batch.append(sample)
            if len(batch) == BATCH:
                yield _table(batch, names)
                batch = []
    if batch and names is not None:
        yield _table(batch, names)


def _table(batch: list[dict[str, str | None]], names: list[str]) -> pa.Table:
    columns = ("file", "split", "label", *names)
    return pa.table({name: pa.array([row.get(name) for row in batch], pa.string()) for name in columns})


def _samples(path: Root, name: str) -> Iterator[dict[str, str | None]]:
    """The samples of one tar, in its order; what is broken off at its end is left out here and refused when it is read."""
    split = next((SPLITS[w] for w in (name.split("-")[0].lower(), *PurePosixPath(name).parts[:-1]) if w in SPLITS), None)
    key: str | None = None
    sample: dict[str, str | None] = {}
    with path.open("rb") as file, Tar.open(fileobj=file, mode="r:") as tar:
        for member in walk(tar):
            place = PurePosixPath(member.name)
            own, ending = str(place.parent / place.name.split(".")[0]), "." + place.name.partition(".")[2].lower()
            if own != key and "file" in sample:
                yield sample
            if own != key:
                key, sample = own, {"split": split}
            if PurePosixPath(member.name).suffix.lower() in SUFFIXES:
                sample["file"] = f"{name}/{member.name}"
            elif ending in _TEXT and (text := tar.extractfile(member)) is not None:
                sample.setdefault("label", text.read().decode("utf-8", "replace").strip())
            elif ending == ".json" and (text := tar.extractfile(member)) is not None:
                fields: dict[str, Any] = json.loads(text.read())
                sample |= {name: str(value) for name, value in fields.items() if isinstance(value, str | int | float)}
    if "file" in sample:
        yield sample
