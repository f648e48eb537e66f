"""Parquet and Arrow files with images in them: any folder of such, so also Hugging Face's, as downloaded or as saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from cfx.errors import UserError
from tasks.data.broken_files import as_invalid
from tasks.data.files import image_column, image_columns, names_below
from tasks.data.formats.class_names import class_names, named
from tasks.data.formats.source import Source
from tasks.data.formats.splits import splits_of_files

_OURS = ("file", "split")


def rows(source: Source) -> Iterator[pa.Table]:
    """Every row of every .parquet and .arrow file below the folder; its plain columns are kept, class numbers as class names.

    The split is the column of that name, or else what a file or its folder is called (`train-00000-of-00002.parquet`,
    `train/data-….arrow`). Raises UserError for files that cannot be read, and for several columns of images.
    """
    held = [name for name in names_below(source.folder, source.remarks.leave_out) if _holds_rows(name, source)]
    splits = splits_of_files(held, source)
    for name in held:
        try:
            with as_invalid():
                yield from _of_file(source, name, splits[name])
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{source.folder / name} cannot be read: {error}") from error


def _holds_rows(name: str, source: Source) -> bool:
    cached = PurePosixPath(name).name.startswith("cache-")
    if name.endswith((".parquet", ".arrow")) and not cached:
        return True
    source.remarks.leave_out(name, "a cache of Hugging Face" if cached else "no .parquet or .arrow file")
    return False


def _of_file(source: Source, name: str, split: str | None) -> Iterator[pa.Table]:
    path, start, wanted = source.folder / name, 0, source.choices.image_key
    with path.open("rb") as file:
        held = pq.ParquetFile(file) if name.endswith(".parquet") else pa.ipc.open_stream(file)
        schema: pa.Schema = held.schema_arrow if isinstance(held, pq.ParquetFile) else held.schema
        if not image_columns(schema):
            source.remarks.leave_out(name, "without a column of image bytes")
            return
        key = next((key for key in wanted if key in schema.names), wanted[0] if wanted else "")
        image = image_column(schema, path, key)
        plain = [field.name for field in schema if _is_plain(field.type) and field.name not in _OURS]
        if "file" in schema.names:
            source.remarks.say("the column 'file' of the data is left out: here it says where an image lies")
        own_split = "split" in schema.names and _is_plain(schema.field("split").type)
        columns_read = [*plain, *(["split"] if own_split else [])]
        classes = class_names(schema)
        for batch in (
            held.iter_batches(columns=columns_read or [image]) if isinstance(held, pq.ParquetFile) else held
        ):  # without a plain column the rows are images all the same
            n = batch.num_rows
            columns: dict[str, Any] = {"file": pa.array([_name(name, start + i, key) for i in range(n)], pa.string())}
            columns["split"] = _text(batch.column("split"), classes) if own_split else pa.array([split] * n, pa.string())
            yield pa.table(columns | {column: named(batch.column(column), classes.get(column)) for column in plain})
            start += n


def _name(file: str, row: int, column: str) -> str:
    return f"{file}/{row:07d}/{column}" if column else f"{file}/{row:07d}"


def _text(column: Any, classes: dict[str, list[str]]) -> Any:
    return named(column, classes.get("split")).cast(pa.string())


def _is_plain(kind: pa.DataType) -> bool:
    tests = (pat.is_string, pat.is_large_string, pat.is_boolean, pat.is_integer, pat.is_floating)
    return any(test(kind) for test in tests)
