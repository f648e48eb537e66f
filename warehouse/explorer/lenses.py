"""The lenses that the explorer reads through, kept open between requests and opened again when there are new facts.

A page about one run reads a lens of that run: it costs what the run costs, however many others the warehouse has, and what takes
longest in it is computed once. A review or a name, of which a reader sees more with each request, opens no lens anew.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import duckdb

from cfx.errors import UserError
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import written
from warehouse.facts.storage import Root
from warehouse.lens.connect import open_facts, open_runs, open_warehouse, read_into
from warehouse.lens.fetch import fetch
from warehouse.lens.settled import settle_for_all
from warehouse.lens.wholeness import refuse_damaged

GROWING = ("reviews", "names")  # facts that people write while they look
LASTING = tuple(name for name in FACTS if name not in GROWING)
LISTED = ("runs", "policies")  # facts that a list of runs is made of
KEPT = 8  # lenses of runs that stay open
KNOWN = "select run_id, base_id from runs left join bases using (run_id) where run_id = $run"

State = tuple[tuple[str, int, int], ...]


@dataclass
class _OfRun:
    """The lens of one run and of the run it is compared with; None until somebody asks."""

    lock: Lock = field(default_factory=Lock)
    con: duckdb.DuckDBPyConnection | None = None
    runs: tuple[str, ...] = ()
    facts: State = ()
    growing: State = ()
    read: set[Root] = field(default_factory=set)


class Lenses:
    """Safe for several threads: each asks through a cursor of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = Lock()
        self._facts: object = None
        self._con: duckdb.DuckDBPyConnection | None = None
        self._listing = Lock()
        self._listed: object = None
        self._list: duckdb.DuckDBPyConnection | None = None
        self._runs: OrderedDict[str, _OfRun] = OrderedDict()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of the caller's own to the facts of all runs as they are now."""
        with self._lock:
            now = _state_below((self.root / "facts").glob("*/run_id=*"))
            if self._con is None or now != self._facts:
                self._con, self._facts = open_warehouse(self.root), now
            return self._con.cursor()

    def of(self, run_id: str) -> duckdb.DuckDBPyConnection:
        """A connection of the caller's own to the facts of this run, and of the run it is compared with, as they are now.

        Raises UserError for an unknown run, DamagedRun for one of which a file is damaged.
        """
        with self._lock:
            kept = self._runs.setdefault(run_id, _OfRun())
            self._runs.move_to_end(run_id)
            while len(self._runs) > KEPT:
                self._runs.popitem(last=False)
        with kept.lock:
            if kept.con is None or state_of(self.root, kept.runs, LASTING) != kept.facts:
                kept.con = None
                kept.runs = self.with_base(run_id)
                kept.facts = state_of(self.root, kept.runs, LASTING)
                kept.growing = ()
                con = open_runs(self.root, kept.runs)
                refuse_damaged(con, run_id)
                settle_for_all(con, run_id)
                kept.con = con
                kept.read = set()
            if (growing := state_of(self.root, (run_id,), GROWING)) != kept.growing:
                for name in GROWING:
                    new = [path for path in written(self.root, name, run_id).get(run_id, []) if path not in kept.read]
                    read_into(kept.con, name, new)
                    kept.read.update(new)
                kept.growing = growing
            return kept.con.cursor()

    def with_base(self, run_id: str) -> tuple[str, ...]:
        """The run and the one that it is compared with. Raises UserError for an unknown run."""
        found = fetch(self.runs(), KNOWN, run=run_id)
        if not found:
            raise UserError(f"there is no run {run_id!r} in this warehouse")
        return (run_id, *(row["base_id"] for row in found if row["base_id"] is not None))

    def runs(self) -> duckdb.DuckDBPyConnection:
        """A connection of the caller's own to `runs`, `bases` and `policies` of all runs, and to nothing else.

        Of a run some of whose files of these facts are damaged it sees the others.
        """
        with self._listing:
            folders = (folder for fact in LISTED for folder in (self.root / "facts" / fact).glob("run_id=*"))
            now = _state_below(folders)
            if self._list is None or now != self._listed:
                con = open_facts(self.root, LISTED, KNOWN, in_part=True)
                con.execute("create table facts.list_of_runs as from runs")
                con.execute("create table facts.list_of_bases as from bases")
                con.execute("create or replace view runs as from facts.list_of_runs")
                con.execute("create or replace view bases as from facts.list_of_bases")
                self._list, self._listed = con, now
            return self._list.cursor()


def state_of(root: Path, run_ids: Sequence[str], facts: Sequence[str]) -> State:
    """The files of these runs' facts with their sizes and times."""
    return _state_below(root / "facts" / fact / f"run_id={run_id}" for fact in facts for run_id in run_ids)


def _state_below(folders: Iterable[Path]) -> State:
    found = []
    for folder in folders:
        with suppress(FileNotFoundError), os.scandir(folder) as files:
            found += [(file.path, (known := file.stat()).st_mtime_ns, known.st_size) for file in files]
    return tuple(sorted(found))
