"""Data sets as they are published become the table that an audit reads: `file`, `split`, what is a label, what is yes or no.

Each format is a function source -> tables with the same columns, a few thousand rows at a time, so that any number of images
passes; names are relative to the folder, and may go on inside a tar or a Parquet file (tasks/data/files.py).
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
from tasks.data.formats.remarks import LeftOut, Remarks
from tasks.data.formats.rows import rows
from tasks.data.formats.source import Choices, Source
from tasks.data.formats.tars import tars
from warehouse.facts.storage import Root

FORMATS: dict[str, Callable[[Source], Iterable[pa.Table]]] = {
    "celeba": lambda source: celeba(source.folder),
    "celeba-hq": lambda source: celeba_hq(source.folder),
    "bdd100k": lambda source: bdd100k(source.folder),
    "bdd-oia": lambda source: bdd_oia(source.folder),
    "imagefolder": folders,
    "parquet": rows,
    "huggingface": rows,
    "webdataset": tars,
}
CHOICES = {  # which formats can be read in more than one way, and so ask
    "image_key": ("imagefolder", "parquet", "huggingface", "webdataset"),
    "label_key": ("webdataset",),
    "splits": ("imagefolder", "parquet", "huggingface", "webdataset"),
}


class Written(NamedTuple):
    """What a table holds, how the data set was read, and what of it is not in the table."""

    rows: int
    columns: list[str]
    remarks: list[str]
    left_out: list[LeftOut]


def table_of(form: str, folder: Root, to: Path, choices: Choices | None = None) -> Written:
    """Write the table of a data set as Parquet, whole or not at all.

    Raises UserError for a format that there is not, a folder that is not in that format, or that can be read in two ways.
    """
    if to.suffix.lower() not in (".parquet", ".pq"):
        raise UserError(f"{to} would hold Parquet; let its name end in .parquet")
    if to.is_dir():
        raise UserError(f"{to} is a folder; name the table in it, such as {to / 'table.parquet'}")
    choices = choices or Choices()
    _check(form, choices)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give the one that the data set was unpacked into")
    remarks = Remarks()
    parts: Iterator[pa.Table] = iter(FORMATS[form](Source(folder, choices, remarks)))
    first = next(parts, None)
    if first is None:
        rest = f"; left out: {'; '.join(map(str, remarks.left_out()))}" if remarks.counts else ""
        raise UserError(f"{folder} holds no image of a data set in the format {form!r}{rest}")
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
    return Written(rows, first.schema.names, list(remarks.sentences), remarks.left_out())


def _check(form: str, choices: Choices) -> None:
    if form not in FORMATS:
        raise UserError(f"there is no format {form!r}; there are {', '.join(FORMATS)}")
    for name, forms in CHOICES.items():
        if getattr(choices, name) != Choices._field_defaults[name] and form not in forms:
            raise UserError(f"--{name.replace('_', '-')}: {form} is read in one way only; it is for {', '.join(forms)}")


def _alike(part: pa.Table, schema: pa.Schema, folder: Root) -> pa.Table:
    """A part of a data set with the columns of its first. Raises UserError where files disagree."""
    try:
        return part.select(schema.names).cast(schema)
    except (KeyError, pa.ArrowInvalid) as error:
        raise UserError(f"the files of {folder} have different columns ({error}); import folders of one kind each") from error
