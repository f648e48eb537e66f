"""An answer as a file: CSV, with lists as JSON and bytes as base64, and Parquet."""

from __future__ import annotations

import base64

import pyarrow as pa

from warehouse.lens.plain_json import as_json


def csv(answer: pa.Table) -> bytes:
    """The rows under a line of names."""
    import pyarrow.csv

    sink = pa.BufferOutputStream()
    columns = {name: _text(column) for name, column in zip(answer.column_names, answer.columns, strict=True)}
    pyarrow.csv.write_csv(pa.table(columns), sink)
    return bytes(sink.getvalue().to_pybytes())


def parquet(answer: pa.Table) -> bytes:
    """The rows with their types."""
    import pyarrow.parquet

    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(answer, sink)
    return bytes(sink.getvalue().to_pybytes())


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column that CSV can hold."""
    if pa.types.is_nested(column.type):
        return pa.array([None if value is None else as_json(value) for value in column.to_pylist()], pa.string())
    if pa.types.is_binary(column.type):
        return pa.array([None if value is None else base64.b64encode(value).decode("ascii") for value in column.to_pylist()])
    return column
