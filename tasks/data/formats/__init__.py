"""Data sets as they are published become the table that an audit reads: `file`, `split`, what is a label, what is yes or no.

Each format is a function folder -> tables with the same columns, a few thousand rows at a time, so that any number of images
passes; names are relative to the folder, and may go on inside a tar or a Parquet file (tasks/contents.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from cfx.errors import UserError
from tasks.data.formats.bdd import bdd100k, bdd_oia
from tasks.data.formats.celeba import celeba, celeba_hq
from tasks.data.formats.folders import folders
from tasks.data.formats.rows import rows
from tasks.data.formats.tars import tars
from warehouse.facts.storage import Root

FORMATS: dict[str, Callable[[Root], Iterable[pa.Table]]] = {
    "celeba": celeba,
    "celeba-hq": celeba_hq,
    "bdd100k": bdd100k,
    "bdd-oia": bdd_oia,
    "imagefolder": folders,
    "parquet": rows,
    "huggingface": rows,
    "webdataset": tars,
}


class Written(NamedTuple):
    """What a table holds."""

    rows: int
    columns: list[str]


def table_of(form: str, folder: Root, to: Path) -> Written:
    """Write the table of a data set as Parquet, whole or not at all.

    Raises UserError for a format that there is not, or a folder that is not in that format.
    """
    if form not in FORMATS:
        raise UserError(f"there is no format {form!r}; there are {', '.join(FORMATS)}")
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give the one that the data set was unpacked into")
    parts: Iterator[pa.Table] = iter(FORMATS[form](folder))
    first = next(parts, None)
    if first is None:
        raise UserError(f"{folder} holds no image of a data set in the format {form!r}")
    to.parent.mkdir(parents=True, exist_ok=True)
    half, rows = to.with_name(f".{to.name}.{uuid4().hex}"), 0
    try:
        with pq.ParquetWriter(half, first.schema) as writer:
            for part in chain([first], parts):
                writer.write_table(_alike(part, first.schema, folder))
                rows += part.num_rows
        half.replace(to)
    finally:
        half.unlink(missing_ok=True)
    return Written(rows, first.schema.names)


def _alike(part: pa.Table, schema: pa.Schema, folder: Root) -> pa.Table:
    """A part of a data set with the columns of its first. Raises UserError where files disagree."""
    try:
        return part.select(schema.names).cast(schema)
    except (KeyError, pa.ArrowInvalid) as error:
        raise UserError(f"the files of {folder} have different columns ({error}); import folders of one kind each") from error
