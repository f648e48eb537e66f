"""One audit of a run at a time: a second one waits, finds what the first has done, and queries no image twice."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tasks.run import Run
from warehouse.facts.storage import NotWritten, cache_of

POLL = 0.5  # seconds


@contextmanager
def locked(run: Run, log: logging.Logger | logging.LoggerAdapter[Any]) -> Iterator[None]:
    """The body has the run to itself, among all processes that lock files of the same file system (`flock`); a process that is
    killed holds nothing. Of a warehouse in an object store, among those of this machine.

    Raises NotWritten where the lock's file cannot be made.
    """
    home = run.root if isinstance(run.root, Path) else cache_of(run.root)
    path = home / "tmp" / f"{run.id}.lock"
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        log.info("run=%s another audit of this run is at work: waiting until it has ended", run.id)
        lock.acquire(poll_interval=POLL)
    except NotImplementedError:  # this file system has no locks
        log.warning("run=%s %s has no file locks: start no second audit of this run before this one has ended", run.id, home)
    except OSError as error:
        raise NotWritten(path, error) from error
    try:
        yield
    finally:
        lock.release()
