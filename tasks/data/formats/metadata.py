"""Hugging Face's metadata files of a folder of images: `metadata.csv`, `.jsonl` or `.parquet`, a row an image by `file_name`."""

from __future__ import annotations

import csv
import io
import math
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import from_json

from cfx.errors import UserError
from tasks.data.broken_files import as_invalid
from tasks.data.formats.class_names import class_names, named
from tasks.data.formats.remarks import listed
from warehouse.facts.storage import Root

KINDS = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
Row = Mapping[str, Any]


def is_metadata(file: str) -> bool:
    return PurePosixPath(file).name in KINDS


def metadata_of(folder: Root, files: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """What the metadata files among these say, by `same_name` of the image.

    Raises UserError for two of them in one folder, rows without file_name, images named twice, and what cannot be read.
    """
    held = [file for file in files if is_metadata(file)]
    places = Counter(str(PurePosixPath(file).parent) for file in held)
    if twice := [place for place, count in places.items() if count > 1]:
        here = [PurePosixPath(file).name for file in held if str(PurePosixPath(file).parent) == twice[0]]
        raise UserError(f"{folder / twice[0]} has {listed(here)}, and one would go unread; keep one of them")
    metadata: dict[str, dict[str, str | None]] = {}
    for file in held:
        for row in _rows(folder / file):
            if "file_name" not in row:
                raise UserError(f"{folder / file} has no file_name, which says what its rows are about")
            image = same_name(f"{PurePosixPath(file).parent}/{row['file_name']}")
            if image in metadata:
                raise UserError(f"{folder / file}: an earlier row is about {row['file_name']!r} too; keep one of them")
            metadata[image] = {key: plain_text(value) for key, value in row.items() if key != "file_name"}
    return metadata


def same_name(name: str) -> str:
    """A file's name by which others find it: without ./ and //, / for \\, and composed (NFC), which macOS does not keep."""
    return unicodedata.normalize("NFC", posixpath.normpath(name.replace("\\", "/")))


def plain_text(value: object) -> str | None:
    """One plain value as text; lists and objects (captions, boxes) say nothing of yes or no, and NaN says nothing."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return str(value) if isinstance(value, str | int | float) else None


def _rows(path: Root) -> Iterator[Row]:
    try:
        if path.suffix == ".parquet":
            with as_invalid():
                yield from _of_parquet(path)
            return
        text = path.read_bytes().decode("utf-8-sig")
    except (UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise UserError(f"{path} cannot be read: {error}; save it as UTF-8") from error
    yield from (_of_csv if path.suffix == ".csv" else _of_lines)(text, path)


def _of_csv(text: str, path: Root) -> Iterator[Row]:
    for number, row in enumerate(csv.DictReader(io.StringIO(text, newline="")), 1):
        if None in row:
            raise UserError(f"{path}: row {number} has more cells than the header; quote what holds a comma")
        yield row


def _of_lines(text: str, path: Root) -> Iterator[Row]:
    """A JSON object a line. Only a line feed ends one: U+2028 may stand in a text."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = from_json(line)
        except ValueError as error:
            raise UserError(f"{path}: line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}: line {number} is {line[:40]!r}; a line holds one object")
        yield row


def _of_parquet(path: Root) -> Iterator[Row]:
    with path.open("rb") as file:
        table = pq.read_table(file)
    names = class_names(table.schema)
    yield from pa.table({name: named(table[name], names.get(name)) for name in table.column_names}).to_pylist()
