"""Which images have been seen, to find duplicates by: on disk, so that memory does not grow with their number."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

_CACHE_KIB = 16 * 1024


class SeenFiles:
    """The file that was seen first, by image_id."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a file of its own that is gone when this is
        self._db.execute(f"pragma cache_size = -{_CACHE_KIB}")
        self._db.execute("create table seen (image_id blob primary key, file text) without rowid")

    def file_of(self, image_id: str) -> str | None:
        """The file that was the first with these bytes, or None."""
        found = self._db.execute("select file from seen where image_id = ?", (bytes.fromhex(image_id),)).fetchone()
        return None if found is None else str(found[0])

    def update(self, pairs: Iterable[tuple[str, str]]) -> None:
        rows = ((bytes.fromhex(image_id), file) for image_id, file in pairs)
        self._db.execute("begin")
        self._db.executemany("insert or replace into seen values (?, ?)", rows)
        self._db.execute("commit")
