"""A lens that stays open for as long as there are no new facts."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

import duckdb

from warehouse.facts.storage import Root, files_below
from warehouse.lens.connect import open_warehouse


class Lens:
    """A lens that is opened again when there are new facts. Safe for several threads: each asks through a cursor of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = Lock()
        self._seen: object = None
        self._open: dict[str | None, duckdb.DuckDBPyConnection] = {}

    def cursor(self, sql: str | None = None) -> duckdb.DuckDBPyConnection:
        """A connection of the caller's own to the facts as they are now.

        sql: a query whose views alone are laid out; all of them take seconds in a large warehouse. A query of the program's own:
        what people type is not kept open for.
        """
        with self._lock:
            now = [(str(folder), state_of(folder)) for folder in sorted((self.root / "facts").glob("*/run_id=*"))]
            if now != self._seen:
                self._open, self._seen = {}, now
            if sql not in self._open:
                self._open[sql] = open_warehouse(self.root, sql=sql)
            return self._open[sql].cursor()


def state_of(folder: Root) -> object:
    """What changes when a shard comes into a folder of facts; an object store's folder has no time, so there the names say it."""
    if isinstance(folder, Path):
        return folder.stat().st_mtime_ns if folder.is_dir() else None
    return tuple(path.name for path in files_below(folder, "*"))
