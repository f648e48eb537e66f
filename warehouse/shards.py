"""`Shard`: one Parquet file of one fact, written whole and once.

A shard is written under `<root>/tmp` and renamed to `<root>/facts/<fact>/run_id=<run_id>/<key>.parquet`. A final name that
exists is done: nothing is ever updated in place, and no reader sees half a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from warehouse.schema import Fact, fact_named

IMAGE_ROW_GROUP = 128  # rows; one image is then read in milliseconds
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class DamagedShard(ValueError):
    """A shard that is not a whole Parquet file."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is not a whole Parquet file; delete it and run the audit again, which writes only what is missing")


@dataclass(frozen=True)
class Shard:
    """What a task hands on: where the rows are and how many."""

    fact: str
    run_id: str
    key: str
    path: Path
    rows: int


def write_shard(root: Path, fact: str, run_id: str, key: str, rows: pa.Table | Mapping[str, Sequence[object]]) -> Shard:
    """Writes rows under the final name of (fact, run_id, key), or returns the shard that already has it, untouched.

    rows: a table whose types are the schema's, or values by column. Raises ValueError naming the column when one is missing,
    unknown, of another type, null where it may not be, or holds a number that is not finite.
    """
    done = find_shard(root, fact, run_id, key)
    if done is not None:
        return done
    table = checked(fact_named(fact), rows)
    path = shard_path(root, fact, run_id, key)
    part = root / "tmp" / f"{uuid4().hex}.parquet"
    part.parent.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        pq.write_table(table, part, row_group_size=IMAGE_ROW_GROUP if "png" in table.column_names else None)
        _flush(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    _flush(path.parent)
    return Shard(fact, run_id, key, path, table.num_rows)


def find_shard(root: Path, fact: str, run_id: str, key: str) -> Shard | None:
    """The shard of that name if it has been written. Raises DamagedShard if the file is not whole Parquet."""
    path = shard_path(root, fact, run_id, key)
    if not path.exists():
        return None
    try:
        return Shard(fact, run_id, key, path, pq.read_metadata(path).num_rows)
    except pa.ArrowInvalid as error:
        raise DamagedShard(path) from error


def read_shard(shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a shard, all columns or these. Raises DamagedShard, or ValueError for a column that it does not have."""
    try:
        with pq.ParquetFile(shard.path) as file:
            names = file.schema_arrow.names
            missing = [name for name in columns or () if name not in names]
            if missing:
                raise ValueError(f"{shard.path} has no column {missing[0]!r}; it has {', '.join(names)}")
            table = file.read(columns=None if columns is None else list(columns))
            return table if columns is None else table.select(list(columns))
    except pa.ArrowInvalid as error:
        raise DamagedShard(shard.path) from error


def shard_path(root: Path, fact: str, run_id: str, key: str) -> Path:
    """The final name. Raises ValueError for an unknown fact, or a run id or key that could leave its folder."""
    fact_named(fact)
    for what, name in (("run_id", run_id), ("key", key)):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{what} {name!r} cannot name a shard; use letters, digits, '.', '_' and '-', the first a letter or digit")
    return root / "facts" / fact / f"run_id={run_id}" / f"{key}.parquet"


def checked(fact: Fact, rows: pa.Table | Mapping[str, Sequence[object]]) -> pa.Table:
    """Rows as a table of exactly this fact's columns, in the schema's order. Raises ValueError naming the column at fault."""
    names = list(rows.column_names if isinstance(rows, pa.Table) else rows)
    schema = fact.schema_with(_wide_columns(fact, names))
    columns = [_column(fact, field, rows[field.name]) for field in schema]
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        raise ValueError(f"{fact.name}: columns of {len(lengths)} lengths: {', '.join(map(str, sorted(lengths)))}")
    return pa.table(columns, schema=schema)


def _wide_columns(fact: Fact, names: list[str]) -> list[str]:
    """Names that are not fixed, all proven to be wide columns of this fact."""
    missing = [name for name in fact.schema.names if name not in names]
    if missing:
        raise ValueError(f"{fact.name}: column {missing[0]!r} is missing")
    wide = [name for name in names if name not in fact.schema.names]
    unknown = [name for name in wide if fact.family(name) is None]
    if unknown:
        raise ValueError(f"{fact.name}: no column {unknown[0]!r}; it has {', '.join(fact.schema.names + [f.prefix + '*' for f in fact.families])}")
    twice = [name for name in names if sum(name.lower() == other.lower() for other in names) > 1]
    if twice:
        raise ValueError(f"{fact.name}: columns {' and '.join(map(repr, twice[:2]))} are one name to SQL, which ignores case")
    attributes = {name[len(family.prefix) :] for name in wide if (family := fact.family(name))}
    absent = [f.prefix + attribute for attribute in sorted(attributes) for f in fact.families if f.prefix + attribute not in wide]
    if absent:
        raise ValueError(f"{fact.name}: column {absent[0]!r} is missing; an attribute has all of {', '.join(f.prefix for f in fact.families)}")
    return wide


def _column(fact: Fact, field: pa.Field, values: pa.ChunkedArray | Sequence[object]) -> pa.ChunkedArray | pa.Array:
    """One column of the field's type, without nulls where there may be none and without NaN or infinity anywhere."""
    if not isinstance(values, (pa.ChunkedArray, pa.Array)):
        try:
            values = pa.array(values, type=field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise ValueError(f"{fact.name}: column {field.name!r} takes {field.type}: {error}") from error
    if values.type != field.type:
        raise ValueError(f"{fact.name}: column {field.name!r} takes {field.type}, not {values.type}")
    if values.null_count and not field.nullable:
        raise ValueError(f"{fact.name}: column {field.name!r} is null in {values.null_count} of {len(values)} rows and may not be")
    numbers = pc.list_flatten(values) if pa.types.is_list(values.type) else values
    if pa.types.is_floating(numbers.type) and not pc.all(pc.is_finite(numbers)).as_py() and len(numbers):
        raise ValueError(f"{fact.name}: column {field.name!r} holds a number that is not finite; NaN would poison every mean over it")
    return values


def _flush(path: Path) -> None:
    """fsync of a file or folder, so that a name that exists after a crash has its bytes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
