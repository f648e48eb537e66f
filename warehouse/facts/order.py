"""Order by what was written before, not by clocks: of policies, reviews and names of a run the last one written counts.

Each carries the time of its writing. A clock may be wrong, or set back: what it writes would then count for less than what came
before, or for more than what comes after.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock

import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.facts.seal import is_whole
from warehouse.facts.shards import written
from warehouse.facts.storage import Root, remembered

STEP = timedelta(microseconds=1)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_READING = Lock()
_read: dict[tuple[str, int, int], datetime] = {}  # file, size, time -> when it was written: thousands of reviews are read once


def next_moment(root: Path, fact: str, run_id: str) -> datetime:
    """Now, or if a clock was ahead the moment after the last row of a run's shards of a fact with a column `written`."""
    paths = written(remembered(root), fact, run_id).get(run_id, [])
    with _READING:
        return max([datetime.now(UTC), *(_written(path) + STEP for path in paths)])


def _written(path: Root) -> datetime:
    """When a shard of one row was written; long ago for one that is damaged."""
    known = path.stat()
    key = str(path), known.st_size, int(known.st_mtime * 1e6)
    if key not in _read:
        data = path.read_bytes()
        rows = pq.read_table(pa.BufferReader(data), columns=["written"])["written"].to_pylist() if is_whole(data) else []
        _read[key] = max(rows, default=_LONG_AGO)
    return _read[key]
