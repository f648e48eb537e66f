"""Parquet and Arrow files with images in them: any folder of such, so also Hugging Face's, as downloaded or as saved."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pat

from tasks.data.files import image_column, names_below
from tasks.data.formats.folders import SPLITS
from warehouse.facts.storage import Root


def rows(folder: Root) -> Iterator[pa.Table]:
    """Every row of every .parquet and .arrow file below the folder; its plain columns are kept, class numbers as class names.

    The split is what a file or its folder is called (`train-00000-of-00002.parquet`, `train/data-….arrow`).
    """
    for name in names_below(folder):
        if name.endswith((".parquet", ".arrow")) and not PurePosixPath(name).name.startswith("cache-"):
            yield from _of_file(folder, name)


def _of_file(folder: Root, name: str) -> Iterator[pa.Table]:
    path, start, split = folder / name, 0, _split(name)
    with path.open("rb") as file:
        held = pq.ParquetFile(file) if name.endswith(".parquet") else pa.ipc.open_stream(file)
        schema: pa.Schema = held.schema_arrow if isinstance(held, pq.ParquetFile) else held.schema
        plain = [field.name for field in schema if _is_plain(field.type) and field.name not in ("file", "split")]
        wanted = plain or [image_column(schema, path)]  # rows without a plain column are images all the same
        classes = _classes(schema)
        for batch in held.iter_batches(columns=wanted) if isinstance(held, pq.ParquetFile) else held:
            n = batch.num_rows
            columns = {
                "file": pa.array([f"{name}/{start + i:07d}" for i in range(n)], pa.string()),
                "split": pa.array([split] * n, pa.string()),
            }
            yield pa.table(columns | {column: _named(batch.column(column), classes.get(column)) for column in plain})
            start += n


def _named(column: Any, names: list[str] | None) -> Any:
    """Class numbers as names; -1 is Hugging Face's word for unknown."""
    if names is None:
        return column
    known = pc.if_else(pc.greater_equal(column, 0), column, None)
    return pa.array(names, pa.string()).take(known.cast(pa.int64()))


def _classes(schema: pa.Schema) -> dict[str, list[str]]:
    """The class names of a column, from Hugging Face's note in the schema."""
    note = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = note.get("info", {}).get("features", {})
    return {name: about["names"] for name, about in features.items() if isinstance(about, dict) and "names" in about}


def _split(name: str) -> str | None:
    """As the file's name begins, or its folder's is."""
    words = [re.split(r"[-_.]", PurePosixPath(name).name)[0], *reversed(PurePosixPath(name).parts[:-1])]
    return next((SPLITS[word.lower()] for word in words if word.lower() in SPLITS), None)


def _is_plain(kind: pa.DataType) -> bool:
    tests = (pat.is_string, pat.is_large_string, pat.is_boolean, pat.is_integer, pat.is_floating)
    return any(test(kind) for test in tests)
