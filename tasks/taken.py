"""Which pictures have been taken, to find duplicates by: on disk, so that memory does not grow with their number."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

_CACHE_KIB = 16 * 1024


class Taken:
    """The file that was taken first, by image_id."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a file of its own that is gone when this is
        self._db.execute(f"pragma cache_size = -{_CACHE_KIB}")
        self._db.execute("create table taken (image_id blob primary key, file text) without rowid")

    def __contains__(self, image_id: str) -> bool:
        return self._row(image_id) is not None

    def __getitem__(self, image_id: str) -> str:
        row = self._row(image_id)
        if row is None:
            raise KeyError(image_id)
        return str(row[0])

    def __setitem__(self, image_id: str, file: str) -> None:
        self.update([(image_id, file)])

    def update(self, pairs: Iterable[tuple[str, str]]) -> None:
        rows = ((bytes.fromhex(image_id), file) for image_id, file in pairs)
        self._db.execute("begin")
        self._db.executemany("insert or replace into taken values (?, ?)", rows)
        self._db.execute("commit")

    def _row(self, image_id: str) -> tuple[str] | None:
        found: tuple[str] | None = self._db.execute(
            "select file from taken where image_id = ?", (bytes.fromhex(image_id),)
        ).fetchone()
        return found
