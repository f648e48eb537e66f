"""`stage`: what every stage of an audit shares. A stage turns a run and shards into rows of one fact, which are written once."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from tasks.busy import busy
from tasks.progress import at_work
from tasks.run import Run
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import Shard, find_shard, write_shard

P = ParamSpec("P")
Rows = Mapping[str, Any]  # values by column; for a stage with several facts: rows by fact

_log = logging.getLogger("cfx.stages")


def stage(
    fact: str, suffix: str = "", also: tuple[str, ...] = (), within: Callable[[Run], str] = lambda run: run.id
) -> Callable[[Callable[Concatenate[Run, P], Rows]], Callable[Concatenate[Run, P], Shard]]:
    """Declare a function from (run, input, …) to rows as the stage that writes `fact`; it then returns the shard.

    Where every shard is there and whole, nothing is computed; otherwise those that are damaged or missing are written. Its key
    is that of the input (a shard, or anything with a `key`), with `suffix`; `all` where the input is the whole run. `within`
    gives the run id that the shard is kept under. With `also`, the function returns {fact: rows} for those facts and its own,
    which is written last.
    The undecorated function is the stage's `__wrapped__`.
    """

    def declare(rows_of: Callable[Concatenate[Run, P], Rows]) -> Callable[Concatenate[Run, P], Shard]:
        @wraps(rows_of)
        def shard(run: Run, /, *args: P.args, **kwargs: P.kwargs) -> Shard:
            key, owner = getattr(args[0], "key", "all") if args else "all", within(run)
            done = find_shard(run.root, fact, owner, key + suffix)
            if done is not None and all(find_shard(run.root, other, owner, key) is not None for other in also):
                heal_record(run.root, owner, f"{fact}.{key}{suffix}")
                return done
            with at_work(run.root, run.id, fact, key + suffix), stopwatch(run, owner, fact, key + suffix) as count:
                rows = rows_of(run, *args, **kwargs)
                for other in also:
                    write_shard(run.root, other, owner, key, rows[other])
                made = write_shard(run.root, fact, owner, key + suffix, rows[fact] if also else rows)
                count(made.rows)
            return made

        return shard

    return declare


def heal_record(root: Path, owner: str, key: str) -> None:
    """Where the record of work that is done is damaged or gone, write one without a row: when it was done is lost."""
    if find_shard(root, "stages", owner, key) is None:
        write_shard(root, "stages", owner, key, FACTS["stages"].schema.empty_table())


@contextmanager
def stopwatch(run: Run, owner: str, fact: str, key: str) -> Iterator[Callable[[int], None]]:
    """When and where a shard was made, as a row of `stages` and a line of the log; `count` tells how many rows it has.

    A fact of its own, so that no other fact differs from run to run.
    """
    began, started, rows = datetime.now(UTC), time.monotonic(), [0]
    with busy(run.device) as seconds:
        yield lambda n: rows.__setitem__(0, n)
        spent = {"ended": [datetime.now(UTC)], "busy_seconds": [seconds()]}
    place = {"host": [socket.gethostname()], "process": [os.getpid()]}
    row = {"stage": [fact], "shard": [key], "began": [began], **spent, **place}
    write_shard(run.root, "stages", owner, f"{fact}.{key}", row)
    _log.info("run=%s stage=%s shard=%s rows=%d seconds=%.2f", owner, fact, key, rows[0], time.monotonic() - started)
