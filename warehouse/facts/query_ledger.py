"""The query ledger of one black box in one run: every call, and every answer by the image's hash, in one SQLite file.

SQLite, because a call must be written down before it is made and an answer as soon as it is there, by many threads, and both must
survive `kill -9`. The fact `queries` is written from it, once, by `tasks.queries`.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cfx.errors import UserError

UNKNOWN = "interrupted"  # what a call is until it has ended, and stays if the audit was killed meanwhile
FREE = "not reached"  # the one status that costs no budget: no connection was made
_TABLES = """  -- named as in 0.1, so that a ledger begun by it can go on
create table if not exists calls (
    call integer primary key, asked timestamp not null, pictures integer not null, seconds real not null, status text not null
);
create table if not exists answers (picture text primary key, answer blob not null);
"""


class BudgetSpent(UserError):
    """The query budget does not reach for the next call."""


@dataclass
class Call:
    """A call that is being made."""

    status: str = UNKNOWN


class QueryLedger:
    """Counts calls and keeps answers (K,) float64. Safe to use from many threads, and from many processes on one machine."""

    def __init__(self, path: Path | None, name: str, budget: int | None) -> None:
        """`path`: the SQLite file, made if missing; None keeps the ledger in memory. `budget`: images; None: any number."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.name, self.budget, self._lock = name, budget, threading.Lock()
        self._file = sqlite3.connect(path or ":memory:", timeout=60, check_same_thread=False, isolation_level=None)
        self._file.execute("pragma journal_mode = wal")
        self._file.execute("pragma synchronous = normal")  # a killed process loses nothing; a lost machine, its last moments
        self._file.executescript(_TABLES)
        weakref.finalize(self, self._file.close)

    @contextmanager
    def call(self, images: int) -> Iterator[Call]:
        """A call about to be made with this many images; it is written down first. Raises BudgetSpent."""
        number, call, started = self._open(images), Call(), time.monotonic()
        try:
            yield call
        except BaseException as error:
            if call.status == UNKNOWN:
                call.status = f"failed: {type(error).__name__}"
            raise
        finally:
            ended = (time.monotonic() - started, call.status, number)
            with self._lock:
                self._file.execute("update calls set seconds = ?, status = ? where call = ?", ended)

    def _open(self, images: int) -> int:
        with self._lock:
            self._file.execute("begin immediate")
            try:
                spent = self._spent()
                if self.budget is not None and spent + images > self.budget:
                    raise BudgetSpent(
                        f"{self.name}: the query budget is {self.budget} images, {spent} are spent and this call has "
                        f"{images}; raise `limits.budget` and run again (what was answered is kept), or audit fewer images"
                    )
                row = (datetime.now(UTC).isoformat(), images, 0.0, UNKNOWN)
                added = self._file.execute("insert into calls (asked, pictures, seconds, status) values (?, ?, ?, ?)", row)
                return int(added.lastrowid or 0)
            finally:
                self._file.execute("commit")

    def _spent(self) -> int:
        (spent,) = self._file.execute("select coalesce(sum(pictures), 0) from calls where status <> ?", (FREE,)).fetchone()
        return int(spent)

    def spent(self) -> int:
        """Images queried so far, those of failed calls included."""
        with self._lock:
            return self._spent()

    def known(self, image: str) -> NDArray[np.float64] | None:
        """The answer to the image of this hash, if there is one."""
        with self._lock:
            row = self._file.execute("select answer from answers where picture = ?", (image,)).fetchone()
        return None if row is None else np.frombuffer(row[0], np.float64)

    def keep(self, answers: Mapping[str, NDArray[np.float64]]) -> None:
        """Remember answers by the images' hashes."""
        rows = [(image, np.asarray(answer, np.float64).tobytes()) for image, answer in answers.items()]
        with self._lock:
            self._file.executemany("insert or replace into answers values (?, ?)", rows)

    def calls(self, after: int) -> dict[str, list[object]]:
        """The columns of `queries` for the calls numbered above `after`."""
        with self._lock:
            rows = self._file.execute(
                "select call, asked, pictures, seconds, status from calls where call > ? order by call", (after,)
            )
            found = rows.fetchall()
        names = ("call", "asked", "batch", "seconds", "status")
        columns = dict(zip(names, (list(column) for column in zip(*found, strict=True)), strict=True)) if found else {}
        return columns and columns | {"asked": [datetime.fromisoformat(asked) for asked in columns["asked"]]}
