"""Opening a lens: which files it reads, the facts and views that are laid out on it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeAlias

import duckdb

from warehouse.facts.damage import Damage
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import written
from warehouse.facts.storage import Root, name_in, remembered
from warehouse.lens.catalog import NAMES, SUMS, VIEWS, view_sql
from warehouse.lens.needed_views import UNSUMMED, needed_facts, needed_views
from warehouse.lens.readonly import lock, spill_of
from warehouse.lens.scans import scan, with_derived
from warehouse.lens.wholeness import (
    Files,
    Wholeness,
    refuse_among,
    values_of,
    whole_of,
)

SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # otherwise a name may mean a variable of the calling program
}


def open_warehouse(
    root: Path,
    from_rows: bool = False,
    sql: str | None = None,
    lens: bool = False,
    without: Collection[str] = (),
    in_part: bool = False,
    runs: Collection[str] | None = None,
) -> duckdb.DuckDBPyConnection:
    """A lens over the facts under root, also when there are none yet. One thread per connection: `.cursor()` for another.

    from_rows: the sums that an audit wrote down are made anew from the rows themselves, to check them.
    sql: the one query that will be run, to lay out no more facts and views than it needs.
    lens: a name means the view of the schema `lens` first, the names that people write (`warehouse.lens.names`).
    without: files that are left out, named relative to the warehouse: the facts as they were before those came.
    in_part: of a run with a damaged file the others count; otherwise none but its row of `runs` (see `warehouse.lens.wholeness`).
    runs: these alone, and the edits that they used: it costs what they cost, whatever else is there; None: every run.
    SQL on it reads this warehouse's facts and no other file, and cannot change a setting or fetch an extension.
    """
    place, every = remembered(root), (*VIEWS, *NAMES) if lens else VIEWS
    views, facts = (every, tuple(FACTS)) if sql is None else (needed_views(sql, lens), with_sums(needed_facts(sql, lens)))
    of_facts = {name: _without(place, paths, without) for name, paths in files_of(place, facts, runs).items()}
    there, whole = whole_of(place, of_facts, in_part)
    if not lens:
        whole.log()
    states = {name: state_of_files(there[name].values()) for name in facts} if isinstance(place, Path) else None
    with _LAYING:
        laid = _last.get((from_rows, in_part))
        if laid is None or not laid.serves(place, whole, states):
            laid = _Laid(place, whole, empty_lens(place, whole), {}, set())
        lay_out_facts(laid.con, {name: there[name] for name in facts if name not in laid.states}, from_rows)
        lay_out(laid.con, (name for name in views if name not in laid.views))
        laid.views.update(views)
        if states is not None:
            laid.states.update(states)
            _last[from_rows, in_part] = laid
        con = laid.con if states is None else laid.con.cursor()
        if lens:
            con.execute("set search_path = 'lens,main'")
        return con


State: TypeAlias = tuple[tuple[str, int, int], ...]


class _Laid(NamedTuple):
    """A database with the facts and views that it has so far: to lay them out takes longer than most queries."""

    place: Root
    whole: Wholeness
    con: duckdb.DuckDBPyConnection
    states: dict[str, State]  # of the files of its facts
    views: set[str]

    def serves(self, place: Root, whole: Wholeness, states: Mapping[str, State] | None) -> bool:
        """Whether it is of this warehouse, and none of these facts has another file by now."""
        if states is None or (self.place, self.whole) != (place, whole):
            return False
        return all(self.states.get(name, state) == state for name, state in states.items())


_LAYING = Lock()
_last: dict[tuple[bool, bool], _Laid] = {}  # by from_rows, in_part: the last one is used again for as long as it serves


def with_sums(facts: Collection[str]) -> list[str]:
    """These facts, and those whose sums or rows are laid out with them."""
    wanted = {*facts, *(name for pair in SUMS.items() if {*pair} & {*facts} for name in pair)}
    return [name for name in FACTS if name in wanted]


def files_of(place: Root, facts: Collection[str], runs: Collection[str] | None = None) -> Files:
    """By fact and run the files that a lens of these facts reads: all, or those of these runs and of the edits that they used.

    Which files a question reads is decided here alone.
    """
    if runs is None:
        return {name: written(place, name) for name in facts}
    found = {name: {run: paths for each in runs for run, paths in written(place, name, each).items()} for name in facts}
    if "edits" in facts:
        effects = found["effects"] if "effects" in facts else files_of(place, ["effects"], runs)["effects"]
        used = {edits for paths in effects.values() for path in paths for edits in values_of(path, "edits")}
        found["edits"] = {run: paths for each in sorted(used) for run, paths in written(place, "edits", each).items()}
    return found


def _without(place: Root, runs: dict[str, list[Root]], left_out: Collection[str]) -> dict[str, list[Root]]:
    if not left_out:
        return runs
    kept = {run: [path for path in paths if name_in(place, path) not in left_out] for run, paths in runs.items()}
    return {run: paths for run, paths in kept.items() if paths}


def open_runs(root: Path, run_ids: Sequence[str], sql: str | None = None) -> duckdb.DuckDBPyConnection:
    """A lens that sees these runs alone, and the edits that they used: it costs what they cost, whatever else is there.

    The database is the caller's own, so that what the caller makes in it changes no other reader's answers.
    sql: as of `open_warehouse`. A run with a damaged file has no facts here: see `warehouse.lens.wholeness.refuse_damaged`.
    """
    place = remembered(root)
    return _opened(place, files_of(place, _facts_of(sql), run_ids), VIEWS if sql is None else needed_views(sql), in_part=False)


def left_out_of(root: Path, run_ids: Sequence[str], sql: str) -> dict[str, list[Damage]]:
    """Those of these runs that a lens of `open_runs` would leave out, each with the damaged files that are why."""
    place = remembered(root)
    found: dict[str, list[Damage]] = {}
    for run, one in whole_of(place, files_of(place, _facts_of(sql), run_ids))[1].left_out:
        if run in run_ids:
            found.setdefault(run, []).append(one)
    return found


def _facts_of(sql: str | None) -> Sequence[str]:
    return tuple(FACTS) if sql is None else with_sums(needed_facts(sql))


def open_facts(root: Path, facts: Sequence[str], sql: str, in_part: bool = False) -> duckdb.DuckDBPyConnection:
    """A lens over every run, in which only these facts have rows: for a query that needs no other.

    in_part: as of `open_warehouse`.
    """
    place = remembered(root)
    of_facts = {name: written(place, name) if name in facts else {} for name in with_sums({*facts, *needed_facts(sql)})}
    return _opened(place, of_facts, needed_views(sql), in_part)


def _opened(place: Root, of_facts: Files, views: Iterable[str], in_part: bool) -> duckdb.DuckDBPyConnection:
    there, whole = whole_of(place, of_facts, in_part)
    con = empty_lens(place, whole)
    lay_out_facts(con, there, from_rows=False)
    lay_out(con, views)
    return con


def read_into(con: duckdb.DuckDBPyConnection, name: str, paths: Sequence[Root]) -> None:
    """Let a lens of `open_runs` hold the rows of these shards of a plain fact, beside those that it was given so before.

    Where people add a small shard every few seconds, each is then read once, and no query opens them all. Raises DamagedRun.
    """
    by_run: dict[str, list[Root]] = {}
    refuse_among(paths)
    for path in paths:
        by_run.setdefault(path.parent.name.removeprefix("run_id="), []).append(path)
    con.execute(f"create table if not exists facts.read_{name} as {scan(FACTS[name], {})}")
    con.execute(f"create or replace view facts.{name} as from facts.read_{name}")
    con.execute(f"insert into facts.read_{name} by name {scan(FACTS[name], by_run)}")


def lay_out(con: duckdb.DuckDBPyConnection, views: Iterable[str]) -> None:
    """Add views to a lens, in the order in which they build on each other."""
    for name in views:
        con.execute(view_sql(name))


def state_of_files(files: Iterable[Sequence[Root]]) -> State:
    """Every file with its time and size."""
    return tuple((str(path), (known := path.stat()).st_mtime_ns, known.st_size) for paths in files for path in paths)


def empty_lens(place: Root, whole: Wholeness) -> duckdb.DuckDBPyConnection:
    """A database in memory, locked, with no fact and no view yet but what is known of damaged files."""
    con = duckdb.connect(":memory:", config={"temp_directory": spill_of(place)} | SETTINGS)
    if not isinstance(place, Path):
        con.register_filesystem(place.fs)
        con.execute("set parquet_metadata_cache = true")  # or every view that mentions a fact asks for its files' ends again
    con.execute("set global timezone = 'UTC'")
    con.execute("create schema facts")
    con.execute("create schema lens")
    whole.lay_out(con)
    lock(con, place)
    return con


def lay_out_facts(con: duckdb.DuckDBPyConnection, there: Files, from_rows: bool) -> None:
    """Add facts to a lens, those that have sums together with these."""
    summed = {name: sums for name, sums in SUMS.items() if sums in there}
    unsummed = {name: there[name] if from_rows else _unsummed(there[name], there[sums]) for name, sums in summed.items()}
    for name, sums in summed.items():
        there[sums] = {run: paths for run, paths in there[sums].items() if run not in unsummed[name]}
    for name in there:
        con.execute(f"create view facts.{name} as {scan(FACTS[name], there[name])}")
        if name not in VIEWS:
            con.execute(f"create view {name} as {with_derived(con, FACTS[name], f'from facts.{name}')}")
    for name, runs in unsummed.items():
        rows = scan(FACTS[name], runs) if runs else f"from facts.{name} where false"
        con.execute(f"create view facts.{UNSUMMED}{name} as {with_derived(con, FACTS[name], rows)}")


def _unsummed(rows: dict[str, list[Root]], sums: dict[str, list[Root]]) -> dict[str, list[Root]]:
    """The runs of which a shard has no sums yet."""
    done = {run: {path.name for path in paths} for run, paths in sums.items()}
    return {run: paths for run, paths in rows.items() if not {path.name for path in paths} <= done.get(run, set())}
