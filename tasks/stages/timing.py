"""How long a stage took, as a fact of its own, so that no other fact differs from run to run."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from warehouse.facts.shards import Shard, write_shard

R = TypeVar("R")


def timed(work: Callable[[], R]) -> R:
    """What the work returns; if that is a shard, or several, that it has just written, a row of `stages` says when and where."""
    began = datetime.now(UTC)
    made = work()
    shards = [made] if isinstance(made, Shard) else made if isinstance(made, list) else []
    fresh = [shard for shard in shards if isinstance(shard, Shard) and _written(shard) >= int(began.timestamp())]
    if fresh:
        first = fresh[0]
        row = {
            "stage": first.fact,
            "shard": first.key,
            "began": began,
            "ended": datetime.now(UTC),
            "host": socket.gethostname(),
            "process": os.getpid(),
        }
        root = first.path.parents[3]  # <root>/facts/<fact>/run_id=…/<key>.parquet
        write_shard(root, "stages", first.run_id, f"{first.fact}.{first.key}", {name: [value] for name, value in row.items()})
    return made


def _written(shard: Shard) -> float:
    """When the shard was written; object stores tell whole seconds."""
    return shard.path.stat().st_mtime
