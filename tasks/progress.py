"""How far the shards are that are being made: a small file each under the warehouse, for whoever watches from any process.

Nothing is written unless somebody watches, who makes the folder that these files are in. In an object store nobody does, and only
finished shards are seen.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path

from warehouse.facts.storage import AT_WORK, TEMPORARY, Root

PAUSE = 0.25  # seconds between two writes, at least


@dataclass
class AtWork:
    """A shard in the making, or done."""

    began: float  # seconds since 1970
    expected: int = 0  # images; what is not known before is added when it is
    done: int = 0  # images
    evaluations: int = 0  # of the UNet; to differentiate through one counts as two
    seconds: float | None = None  # once it is done


class _Making:
    """A shard that is watched."""

    def __init__(self, path: Path) -> None:
        self.path, self.state, self.written = path, AtWork(time.time()), 0.0
        self.write()

    def write(self) -> None:
        now = time.monotonic()
        if now - self.written >= PAUSE or self.state.seconds is not None:
            self.written = now
            part = self.path.with_name(f".{self.path.name}")
            with suppress(OSError):  # a disk that is full is reported by what matters
                part.write_text(json.dumps(asdict(self.state)))
                part.replace(self.path)


_shard: ContextVar[_Making | None] = ContextVar("_shard", default=None)


def watched_folder(root: Root, run_id: str) -> Path | None:
    """Where a run's shards say how far they are, while it exists; None in an object store."""
    return root / TEMPORARY / AT_WORK / run_id if isinstance(root, Path) else None


@contextmanager
def at_work(root: Root, run_id: str, stage: str, key: str) -> Iterator[None]:
    """The body makes this shard: it is seen from its beginning, and `expect` and `advance` are about it."""
    folder = watched_folder(root, run_id)
    if folder is None or not folder.is_dir():
        yield
        return
    shard = _Making(folder / f"{stage}.{key}")
    token = _shard.set(shard)
    try:
        yield
    finally:
        _shard.reset(token)
        shard.state.seconds = time.time() - shard.state.began
        shard.write()


def read(path: Path) -> AtWork | None:
    """What a shard says; None where it says nothing that can be read."""
    try:
        return AtWork(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def expect(images: int) -> None:
    """So many images more are to be done for the shard that is being made."""
    if (shard := _shard.get()) is not None:
        shard.state.expected += images
        shard.write()


def advance(images: int, evaluations: int = 0) -> None:
    """So many of them are done, with so many UNet evaluations."""
    if (shard := _shard.get()) is not None:
        shard.state.done += images
        shard.state.evaluations += evaluations
        shard.write()
