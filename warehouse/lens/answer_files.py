"""An answer as a file: CSV, JSON, Parquet. A part of its rows at a time, so that a long answer takes little memory."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

import pyarrow as pa

from warehouse.lens.plain_json import as_json

PART, ROWS = 1 << 23, 10_000  # bytes and rows that are written at a time, at most
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def write_csv(rows: pa.Table, to: BinaryIO) -> None:
    """Lines under a line of names; lists and structs as JSON, bytes as base64, and no text that a spreadsheet takes for a formula
    (`inert`)."""
    import pyarrow.csv

    names = [inert(name) for name in rows.column_names]
    for number, part in enumerate(_parts(rows)):
        sink = pa.BufferOutputStream()
        flat = pa.Table.from_arrays([_flat(column) for column in part.columns], names)
        pyarrow.csv.write_csv(flat, sink, pyarrow.csv.WriteOptions(include_header=number == 0))
        to.write(sink.getvalue())


def write_json(rows: pa.Table, to: BinaryIO) -> None:
    """One list of objects; see `warehouse.lens.plain_json.as_json`."""
    begun = False
    to.write(b"[")
    for part in _parts(rows):
        if part.num_rows:
            to.write((", " * begun + as_json(part.to_pylist())[1:-1]).encode())
            begun = True
    to.write(b"]\n")


def write_parquet(rows: pa.Table, to: BinaryIO) -> None:
    """The rows with their types."""
    import pyarrow.parquet

    pyarrow.parquet.write_table(rows, to)


FORMS: dict[str, Callable[[pa.Table, BinaryIO], None]] = {"csv": write_csv, "json": write_json, "parquet": write_parquet}


def inert(text: str) -> str:
    r"""Text that no spreadsheet runs: an apostrophe stands before what begins like a formula and is no number.

    It is taken off again where apostrophes and one of = + - @ tab CR LF begin a cell: one apostrophe.

    Examples:
        >>> [inert(text) for text in ("=1+1", "@SUM(A1)", "-0.5", "- none", "'=1", "it's", "\t=1")]
        ["'=1+1", "'@SUM(A1)", '-0.5', "'- none", "''=1", "it's", "'\t=1"]
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _parts(rows: pa.Table) -> Iterator[pa.Table]:
    """At least one part, which may have no rows."""
    size = max(1, min(ROWS, rows.num_rows * PART // max(rows.nbytes, 1)))
    yield from (rows.slice(start, size) for start in range(0, max(rows.num_rows, 1), size))


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column that CSV can hold."""
    if pa.types.is_nested(column.type):
        return pa.array([None if value is None else as_json(value) for value in column.to_pylist()], pa.string())
    if pa.types.is_binary(column.type):
        return pa.array([None if value is None else base64.b64encode(value).decode("ascii") for value in column.to_pylist()])
    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        return pa.array([None if value is None else inert(value) for value in column.to_pylist()], pa.string())
    return column
