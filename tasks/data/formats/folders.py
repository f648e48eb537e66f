"""ImageFolder: a folder a class, below a folder a split if there are several; Hugging Face's metadata files count too."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import PurePosixPath

import pyarrow as pa

from cfx.errors import UserError
from tasks.data.files import names_below
from tasks.training.batches import SUFFIXES
from warehouse.facts.storage import Root

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
}
BATCH = 4096


def folders(folder: Root) -> Iterator[pa.Table]:
    """`<class>/x.png` or `<split>/<class>/x.png`; a `metadata.csv` or `.jsonl` with `file_name` says more of its files."""
    files = list(names_below(folder))
    metadata = _metadata(folder, files)
    names = sorted({name for row in metadata.values() for name in row} - {"file", "split", "label"})
    images = [file for file in files if PurePosixPath(file).suffix.lower() in SUFFIXES]
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        places = [_place(file) for file in batch]
        known = [metadata.get(file, {}) for file in batch]
        columns = {"file": batch, "split": [split for split, _ in places]}
        columns["label"] = [row.get("label", label) for row, (_, label) in zip(known, places, strict=True)]
        columns |= {name: [row.get(name) for row in known] for name in names}
        yield pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _place(file: str) -> tuple[str | None, str | None]:
    """Split and class, as the folders say."""
    parts = PurePosixPath(file).parts[:-1]
    split = SPLITS.get(parts[0].lower()) if parts else None
    below = parts[1:] if split else parts
    return split, below[0] if below else None


def _metadata(folder: Root, files: list[str]) -> dict[str, dict[str, str | None]]:
    """What metadata files say, by image."""
    metadata: dict[str, dict[str, str | None]] = {}
    for file in files:
        place, name = PurePosixPath(file).parent, PurePosixPath(file).name
        if name not in ("metadata.csv", "metadata.jsonl"):
            continue
        text = (folder / file).read_text(encoding="utf-8")
        rows = csv.DictReader(text.splitlines()) if name.endswith("csv") else map(json.loads, text.splitlines())
        for row in rows:
            if "file_name" not in row:
                raise UserError(f"{folder / file} has no file_name, which says what its rows are about")
            metadata[str(place / row["file_name"])] = {key: _text(value) for key, value in row.items() if key != "file_name"}
    return metadata


def _text(value: object) -> str | None:
    """One plain value as text; lists and objects (captions, boxes) say nothing of yes or no."""
    return str(value) if isinstance(value, str | int | float) else None
