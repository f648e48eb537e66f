"""`Shard`: one Parquet file of one fact, written whole and once.

A shard is written under `<root>/tmp` and renamed to `<root>/facts/<fact>/run_id=<run_id>/<key>.parquet`. A final name that
exists is done: nothing is ever updated in place, and no reader sees half a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.rows import Rows, checked
from warehouse.schema import fact_named

IMAGE_ROW_GROUP = 128  # rows, where there are images: one of them is then read in milliseconds
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class DamagedShard(ValueError):
    """A file among the facts that is not whole Parquet."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is not a whole Parquet file; delete it and run the audit again: it writes only what is missing")


@dataclass(frozen=True)
class Shard:
    """What a task hands on: where rows are and how many."""

    fact: str
    run_id: str
    key: str
    path: Path
    rows: int


def write_shard(root: Path, fact: str, run_id: str, key: str, rows: Rows) -> Shard:
    """Writes rows under the final name of (fact, run_id, key), or returns the shard that already has it, untouched.

    Raises ValueError naming the column where rows are not what the fact takes (see `checked`), or where their wide columns are
    not those of the run's other shards.
    """
    done = find_shard(root, fact, run_id, key)
    if done is not None:
        return done
    table = checked(fact_named(fact), rows)
    path = shard_path(root, fact, run_id, key)
    _agree(path, table)
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
    _whole(path)
    return Shard(fact, run_id, key, path, pq.read_metadata(path).num_rows)


def read_shard(shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a shard, all columns or these. Raises DamagedShard, or ValueError for a column that it does not have."""
    _whole(shard.path)
    with pq.ParquetFile(shard.path) as file:
        names = file.schema_arrow.names
        wanted = names if columns is None else list(columns)
        missing = [name for name in wanted if name not in names]
        if missing:
            raise ValueError(f"{shard.path} has no column {missing[0]!r}; it has {', '.join(names)}")
        return file.read(columns=wanted).select(wanted)


def shard_path(root: Path, fact: str, run_id: str, key: str) -> Path:
    """The final name. Raises ValueError for an unknown fact, or a run id or key that could leave its folder."""
    fact_named(fact)
    for what, name in (("run_id", run_id), ("key", key)):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{what} {name!r} cannot name a shard; take letters, digits, '.', '_', '-', a letter or digit first")
    return root / "facts" / fact / f"run_id={run_id}" / f"{key}.parquet"


def written(root: Path, fact: str) -> dict[str, list[Path]]:
    """The files of a fact by run id, both in order of name. Raises DamagedShard for the first that is not whole Parquet."""
    runs: dict[str, list[Path]] = {}
    for path in sorted((root / "facts" / fact).glob("run_id=*/[!.]*.parquet")):
        _whole(path)
        runs.setdefault(path.parent.name.removeprefix("run_id="), []).append(path)
    return runs


def _agree(path: Path, table: pa.Table) -> None:
    """Raises ValueError if another shard of the run has other columns: then the run would have two oracles, or two data sets."""
    other = next(path.parent.glob("[!.]*.parquet"), None)
    if other is None:
        return
    _whole(other)
    differing = sorted(set(pq.read_schema(other).names) ^ set(table.column_names))
    if differing:
        raise ValueError(f"{path} and {other} differ in column {differing[0]!r}; the shards of one run have the same columns")


def _whole(path: Path) -> None:
    """Raises DamagedShard unless the file begins and ends with Parquet's magic bytes; one that was cut off does not."""
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(max(0, path.stat().st_size - 4))
        if path.stat().st_size < 12 or (head, file.read()) != (b"PAR1", b"PAR1"):
            raise DamagedShard(path)


def _flush(path: Path) -> None:
    """fsync of a file or folder, so that a name that is there after a crash has its bytes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
