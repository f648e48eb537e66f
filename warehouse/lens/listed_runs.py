"""The list of runs: what each is called, when it began, what it is compared with. A question about one run reads no more of the
others.

The facts `runs` and `policies` are read once, and again when a file of theirs comes, goes or changes.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import duckdb

from warehouse.facts.storage import Root, remembered
from warehouse.lens.needed_views import needed_views
from warehouse.lens.open_lens import State, open_facts, open_warehouse

LISTED = ("runs", "policies")  # facts
COMPARING = frozenset({"policies", "bases", "changes", "edit_changes", "flip_changes", "unedited"})  # all that joins two runs
_READ = "select 1 from runs, bases, policies"
# What a policy named since a report was written is not what the report rests on: all that it may be are known.
_COMPARED = """
create table facts.list_of_compared as
select distinct run_id, base as base_id from facts.policies where base is not null
union
select a.run_id, arg_max(b.run_id, (coalesce(b.number, 0), b.started))
from runs a join runs b
    on a.name = b.name and (coalesce(b.number, 0), b.started) < (coalesce(a.number, 0), a.started) and b.status = 'finished'
group by a.run_id
"""
_BASES = "select distinct run_id, base_id from facts.list_of_compared where list_contains($runs, run_id) order by all"


class _List(NamedTuple):
    place: Root
    state: State
    con: duckdb.DuckDBPyConnection


_READING = Lock()
_last: list[_List] = []  # the last one alone


def list_of_runs(root: Path) -> duckdb.DuckDBPyConnection:
    """A connection of the caller's own to `runs`, `bases` and `policies` of all runs, and to nothing else.

    Of damaged runs it has what can be read."""
    place = remembered(root)
    state = _state(place) if isinstance(place, Path) else ()
    with _READING:
        if not (_last and isinstance(place, Path) and _last[0][:2] == (place, state)):
            con = open_facts(root, LISTED, _READ, in_part=True)
            con.execute("create table facts.list_of_runs as from runs")
            con.execute("create table facts.list_of_policies as from policies")
            for name in LISTED:
                con.execute(f"create or replace view {name} as from facts.list_of_{name}")
            con.execute(_COMPARED)
            con.execute("create table facts.list_of_bases as from bases")
            con.execute("create or replace view bases as from facts.list_of_bases")
            _last[:] = [_List(place, state, con)]
        return _last[0].con.cursor()


def _state(place: Path) -> State:
    """Every file of the list with its time and size, those that are no shard's too. It is asked for before each question."""
    found = []
    for fact in LISTED:
        with suppress(FileNotFoundError):
            for folder in os.scandir(place / "facts" / fact):
                with suppress(NotADirectoryError, FileNotFoundError):
                    found += [(file.path, (known := file.stat()).st_mtime_ns, known.st_size) for file in os.scandir(folder)]
    return tuple(sorted(found))


def open_run(
    root: Path, sql: str, *run_ids: str, from_rows: bool = False, without: Collection[str] = ()
) -> duckdb.DuckDBPyConnection:
    """A lens over these runs, and what they are compared with: for questions about them, at the cost of these runs alone.

    sql, from_rows, without: as of `open_warehouse`."""
    return open_warehouse(root, from_rows, sql, without=without, runs=with_bases(root, run_ids))


def compares(sql: str) -> bool:
    """Whether what this query says of a run may rest on the runs that it is compared with."""
    return not COMPARING.isdisjoint(needed_views(sql, lens=True))


def with_bases(root: Path, run_ids: Iterable[str]) -> tuple[str, ...]:
    """These runs, and those that they are compared with, by any of their policies or as the audits before them.

    What a view says of these runs rests on no others."""
    asked = list(dict.fromkeys(run_ids))
    bases = bases_of(root, asked)
    return tuple(dict.fromkeys([*asked, *(base for run_id in asked for base in bases[run_id])]))


def bases_of(root: Path, run_ids: Sequence[str]) -> dict[str, list[str]]:
    """What each of these runs is compared with, as of `with_bases`."""
    found: dict[str, list[str]] = {run_id: [] for run_id in run_ids}
    for run_id, base in list_of_runs(root).execute(_BASES, {"runs": list(run_ids)}).fetchall():
        found[run_id].append(base)
    return found
