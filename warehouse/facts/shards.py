"""`Shard`: one Parquet file of one fact, written whole and once, and sealed by its own checksum.

Its name is `<root>/facts/<fact>/run_id=<run_id>/<key>.parquet` (how it gets there: warehouse/storage.py). A final name that
exists is done: nothing is ever updated in place, and no reader sees half a file. A file that was cut short or altered
afterwards breaks its seal: it counts as not there, and is written again.
"""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cfx.errors import UserError
from warehouse.facts.checks import Rows, checked
from warehouse.facts.damage import file_of, remember_written, wrong_with
from warehouse.facts.schema import fact_named
from warehouse.facts.seal import UNSEALED, sealed
from warehouse.facts.storage import Root, files_below, write_whole

IMAGE_ROW_GROUP = 128  # rows, where there are images: one of them is then read in milliseconds
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_log = logging.getLogger(__name__)


class DamagedShard(UserError):
    """A file among the facts that is not as it was written."""

    def __init__(self, path: Root) -> None:
        super().__init__(f"{path} was cut short or altered; run its audit again: it writes what is damaged or missing, no more")


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

    Raises UserError naming the column where rows are not what the fact takes (see `checked`), or where their wide columns are
    not those of the run's other shards; NotWritten where the disk or the object store does not take it.
    """
    path = shard_path(root, fact, run_id, key)
    there = _bytes(path)
    if there is not None and wrong_with(there, path) is None:
        return _shard(path, fact, run_id, key, there)
    table = checked(fact_named(fact), rows)
    if fact_named(fact).families:
        _agree(path, table)
    if write_whole(root, path, _parquet(table, file_of(path)), replace=there is not None):
        remember_written(root, path)
    return Shard(fact, run_id, key, path, table.num_rows)


def find_shard(root: Path, fact: str, run_id: str, key: str) -> Shard | None:
    """The shard of that name if it has been written and is whole; None, with a warning, for one that is damaged."""
    path = shard_path(root, fact, run_id, key)
    there = _bytes(path)
    if there is None:
        return None
    if wrong_with(there, path) is not None:
        _log.warning("%s was cut short or altered, and will be written again", path)
        return None
    return _shard(path, fact, run_id, key, there)


def read_shard(shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a shard, all columns or these. Raises DamagedShard, or UserError for a column that it does not have."""
    data = shard.path.read_bytes()
    if wrong_with(data, shard.path) is not None:
        raise DamagedShard(shard.path)
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        names = file.schema_arrow.names
        wanted = names if columns is None else list(columns)
        missing = [name for name in wanted if name not in names]
        if missing:
            raise UserError(f"{shard.path} has no column {missing[0]!r}; it has {', '.join(names)}")
        table = file.read(columns=wanted).select(wanted)
    return table.replace_schema_metadata(
        {name: value for name, value in table.schema.metadata.items() if name not in (b"seal", b"file")}
    )


def shard_path(root: Path, fact: str, run_id: str, key: str) -> Path:
    """The final name. Raises UserError for an unknown fact, or a run id or key that could leave its folder."""
    fact_named(fact)
    for what, name in (("run_id", run_id), ("key", key)):
        if not _NAME.fullmatch(name):
            raise UserError(f"{what} {name!r} cannot name a shard; take letters, digits, '.', '_', '-', a letter or digit first")
    return root / "facts" / fact / f"run_id={run_id}" / f"{key}.parquet"


def written(root: Root, fact: str, run_id: str | None = None) -> dict[str, list[Root]]:
    """The files of a fact by run id, both in order of name; of all runs, or of this one. Damaged ones, too; not those of which no
    shard can have the name, which file managers and synchronising leave."""
    runs: dict[str, list[Root]] = {}
    for path in files_below(root / "facts" / fact, f"run_id={'*' if run_id is None else glob.escape(run_id)}/[!.]*.parquet"):
        if _NAME.fullmatch(path.stem):
            runs.setdefault(path.parent.name.removeprefix("run_id="), []).append(path)
    return runs


def files_of(root: Root, run_id: str) -> list[Root]:
    """Every file of a run whose name a shard can have, damaged or not."""
    return [
        path
        for path in files_below(root / "facts", f"*/run_id={glob.escape(run_id)}/[!.]*.parquet")
        if _NAME.fullmatch(path.stem)
    ]


def damaged(root: Root, run_id: str) -> list[Root]:
    """The files of a run that are not as they were written, found by reading every byte."""
    return [path for path in files_of(root, run_id) if wrong_with(path.read_bytes(), path) is not None]


def _agree(path: Path, table: pa.Table) -> None:
    """Raises UserError if another shard of the run has other columns: then the run would have two oracles, or two data sets."""
    for other in path.parent.glob("[!.]*.parquet"):
        if wrong_with(data := other.read_bytes(), other) is None:
            differing = sorted(set(pq.read_schema(pa.BufferReader(data)).names) ^ set(table.column_names))
            if differing:
                raise UserError(
                    f"{path} and {other} differ in column {differing[0]!r}; the shards of one run have the same columns"
                )
            return


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _shard(path: Path, fact: str, run_id: str, key: str, data: bytes) -> Shard:
    return Shard(fact, run_id, key, path, pq.read_metadata(pa.BufferReader(data)).num_rows)


def _parquet(table: pa.Table, file: str) -> bytes:
    buffer = BytesIO()
    rows = IMAGE_ROW_GROUP if "png" in table.column_names else None
    with pq.ParquetWriter(buffer, table.schema) as writer:
        writer.write_table(table, rows)
        writer.add_key_value_metadata({"file": file, "seal": UNSEALED})
    return sealed(buffer.getvalue())
