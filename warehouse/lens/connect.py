"""The lens: DuckDB views, in memory, over the Parquet facts. It holds no data, so there is nothing to migrate, lock or repair.

A lens sees the shards that were there when it was opened, so that the answers of one reader agree with each other
while an audit is writing. Open another to see more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Lock, Timer
from typing import NamedTuple, TypeAlias

import duckdb
import pyarrow as pa

from warehouse.facts.damage import Damage
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import written
from warehouse.facts.storage import Root, name_in, remembered
from warehouse.lens.catalog import LENS, NAMES, SUMS, VIEWS, header, view_sql
from warehouse.lens.groups import GROUP_OF
from warehouse.lens.names import OLD_COLUMNS, OLD_VIEWS, made_of
from warehouse.lens.needed_views import UNSUMMED, needed_facts, needed_views
from warehouse.lens.readonly import QueryTimeout, lock, refuse_writes, refused
from warehouse.lens.scans import scan, with_derived
from warehouse.lens.wholeness import Files, Wholeness, left_out, left_out_in_words, refuse_among, refuse_named, whole_of

SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # otherwise a name may mean a variable of the calling program
}
_COLUMNS = """
select schema_name, table_name, column_name, data_type from duckdb_columns()
where schema_name in ('main', 'lens') and ($only is null or table_name = $only)
order by schema_name, table_name, column_index
"""


@dataclass(frozen=True)
class View:
    """A fact or a view: its columns as (name, SQL type), and the SQL that makes it; a fact has none.

    group: where it stands in the list (`warehouse.lens.groups`). old_columns: of the columns those that are old names -> the new.
    """

    name: str
    description: str
    columns: tuple[tuple[str, str], ...]
    sql: str | None
    group: str
    old_name_of: str | None
    old_columns: dict[str, str]


def open_warehouse(
    root: Path,
    from_rows: bool = False,
    sql: str | None = None,
    lens: bool = False,
    without: Collection[str] = (),
    in_part: bool = False,
) -> duckdb.DuckDBPyConnection:
    """A lens over the facts under root, also when there are none yet. One thread per connection: `.cursor()` for another.

    from_rows: the sums that an audit wrote down are made anew from the rows themselves, to check them.
    sql: the one query that will be run, to lay out no more facts and views than it needs.
    lens: a name means the view of the schema `lens` first, the names that people write (`warehouse.lens.names`).
    without: files that are left out, named relative to the warehouse: the facts as they were before those came.
    in_part: of a run with a damaged file the others count; otherwise none but its row of `runs` (see `warehouse.lens.wholeness`).
    SQL on it reads this warehouse's facts and no other file, and cannot change a setting or fetch an extension.
    """
    place, every = remembered(root), (*VIEWS, *NAMES) if lens else VIEWS
    views, facts = (every, tuple(FACTS)) if sql is None else (needed_views(sql, lens), _with_sums(needed_facts(sql, lens)))
    there, whole = whole_of(place, {name: _without(place, written(place, name), without) for name in facts}, in_part)
    if not lens:
        whole.log()
    states = {name: _state(there[name]) for name in facts} if isinstance(place, Path) else None
    with _LAYING:
        laid = _last.get((from_rows, in_part))
        if laid is None or not laid.serves(place, whole, states):
            laid = _Laid(place, whole, _empty_lens(place, whole), {}, set())
        _lay_out_facts(laid.con, {name: there[name] for name in facts if name not in laid.states}, from_rows)
        _lay_out(laid.con, (name for name in views if name not in laid.views))
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


def _with_sums(facts: Collection[str]) -> list[str]:
    """These facts, and those whose sums or rows are laid out with them."""
    wanted = {*facts, *(name for pair in SUMS.items() if {*pair} & {*facts} for name in pair)}
    return [name for name in FACTS if name in wanted]


def _without(place: Root, runs: dict[str, list[Root]], left_out: Collection[str]) -> dict[str, list[Root]]:
    if not left_out:
        return runs
    kept = {run: [path for path in paths if name_in(place, path) not in left_out] for run, paths in runs.items()}
    return {run: paths for run, paths in kept.items() if paths}


def open_runs(root: Path, run_ids: Sequence[str], sql: str | None = None) -> duckdb.DuckDBPyConnection:
    """A lens that sees these runs alone, and what belongs to no run (edits): it costs what they cost, whatever else is there.

    The database is the caller's own, so that what the caller makes in it changes no other reader's answers.
    sql: as of `open_warehouse`. A run with a damaged file has no facts here: see `warehouse.lens.wholeness.refuse_damaged`.
    """
    place = remembered(root)
    return _opened(place, _of_runs(place, run_ids, sql), VIEWS if sql is None else needed_views(sql), in_part=False)


def left_out_of(root: Path, run_ids: Sequence[str], sql: str) -> dict[str, list[Damage]]:
    """Those of these runs that a lens of `open_runs` would leave out, each with the damaged files that are why."""
    place = remembered(root)
    found: dict[str, list[Damage]] = {}
    for run, one in whole_of(place, _of_runs(place, run_ids, sql))[1].left_out:
        if run in run_ids:
            found.setdefault(run, []).append(one)
    return found


def _of_runs(place: Root, run_ids: Sequence[str], sql: str | None) -> Files:
    facts = tuple(FACTS) if sql is None else _with_sums(needed_facts(sql))
    found = {name: {run: paths for run_id in run_ids for run, paths in written(place, name, run_id).items()} for name in facts}
    return found | ({"edits": written(place, "edits")} if "edits" in facts else {})


def open_facts(root: Path, facts: Sequence[str], sql: str, in_part: bool = False) -> duckdb.DuckDBPyConnection:
    """A lens over every run, in which only these facts have rows: for a query that needs no other.

    in_part: as of `open_warehouse`.
    """
    place = remembered(root)
    of_facts = {name: written(place, name) if name in facts else {} for name in _with_sums({*facts, *needed_facts(sql)})}
    return _opened(place, of_facts, needed_views(sql), in_part)


def _opened(place: Root, of_facts: Files, views: Iterable[str], in_part: bool) -> duckdb.DuckDBPyConnection:
    there, whole = whole_of(place, of_facts, in_part)
    con = _empty_lens(place, whole)
    _lay_out_facts(con, there, from_rows=False)
    _lay_out(con, views)
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


def _lay_out(con: duckdb.DuckDBPyConnection, views: Iterable[str]) -> None:
    for name in views:
        con.execute(view_sql(name))


def _state(runs: Mapping[str, Sequence[Root]]) -> State:
    """Every file with its time and size."""
    return tuple((str(path), (known := path.stat()).st_mtime_ns, known.st_size) for files in runs.values() for path in files)


def _empty_lens(place: Root, whole: Wholeness) -> duckdb.DuckDBPyConnection:
    """A database in memory, locked, with no fact and no view yet but what is known of damaged files."""
    con = duckdb.connect(":memory:", config=SETTINGS)
    if not isinstance(place, Path):
        con.register_filesystem(place.fs)
        con.execute("set parquet_metadata_cache = true")  # or every view that mentions a fact asks for its files' ends again
    con.execute("set global timezone = 'UTC'")
    con.execute("create schema facts")
    con.execute("create schema lens")
    whole.lay_out(con)
    lock(con, place)
    return con


def _lay_out_facts(con: duckdb.DuckDBPyConnection, there: Files, from_rows: bool) -> None:
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


def query(
    root: Path,
    sql: str,
    values: Mapping[str, object] | None = None,
    seconds: float = 300,
    most: int | None = None,
    lens: bool = False,
) -> pa.Table:
    """The answer to one SELECT (also FROM, WITH, DESCRIBE, SUMMARIZE, SHOW) over the facts and views.

    Columns of one name are told apart, as SQL itself does it in a subquery: effect, effect_1.

    values: those of its parameters: `query(root, "from scorecard where run_id = $run", {"run": run_id})`.
    most: rows that are read, of an answer that may be longer.
    lens: under the names that people write, see `open_warehouse`; `warehouse.lens.ask` also helps where one is wrong.
    Raises ReadOnlyError for anything else, DamagedRun where it is about one run with a damaged file that it would read,
    QueryTimeout after so many seconds, and DuckDB's own error for wrong SQL.
    """
    return answered(root, sql, values, seconds, most, lens)[0]


def answered(
    root: Path, sql: str, values: Mapping[str, object] | None, seconds: float, most: int | None, lens: bool
) -> tuple[pa.Table, list[str]]:
    """The answer of `query`, and which runs it leaves out, and why, a line each."""
    with open_warehouse(root, sql=sql, lens=lens) as con:
        refuse_named(con, sql, (values or {}).values())
        limit = Timer(seconds, con.interrupt)
        limit.start()
        try:
            refuse_writes(con, sql)
            answer = con.execute(sql, values or None)
            rows = _with_integers(_told_apart(answer.to_arrow_table() if most is None else _first(answer, most)))
        except duckdb.PermissionException as error:
            raise refused(str(error)) from error
        except duckdb.InterruptException as error:
            raise QueryTimeout(seconds) from error
        finally:
            limit.cancel()
        return rows, left_out_in_words(left_out(con))


def _first(answer: duckdb.DuckDBPyConnection, most: int) -> pa.Table:
    """The first rows; those after them are not computed where DuckDB need not."""
    reader = answer.to_arrow_reader(most)
    read = [reader.schema.empty_table()]
    while sum(map(len, read)) < most:
        try:
            read.append(pa.Table.from_batches([reader.read_next_batch()]))
        except StopIteration:
            break
    return pa.concat_tables(read).slice(0, most)


def _told_apart(answer: pa.Table) -> pa.Table:
    """Each column under a name of its own; the first keeps its name, and a name that is there already is not taken."""
    there, names = set(answer.column_names), list[str]()
    for name in answer.column_names:
        free = (f"{name}_{i}" for i in count(1))
        names.append(name if name not in names else next(new for new in free if new not in there and new not in names))
    return answer.rename_columns(names)


def _with_integers(answer: pa.Table) -> pa.Table:
    """Sums and conditional counts are HUGEINT, which leaves DuckDB as decimal128(38, 0) and then is no number to JSON or pandas.

    As int64 it is one; a column that does not fit stays as it is.
    """
    for i, field in enumerate(answer.schema):
        if field.type == pa.decimal128(38, 0):
            with suppress(pa.ArrowInvalid):
                answer = answer.set_column(i, field.name, answer.column(i).cast(pa.int64()))
    return answer


def views(root: Path, only: str | None = None) -> list[View]:
    """Every fact and view, or only this one, by the names that people write, the most useful first, with its columns as they are
    here."""
    columns: dict[tuple[str, str], list[tuple[str, str]]] = {}
    with open_warehouse(root, sql=None if only is None else f"from {only}", lens=True) as con:
        for schema, name, column, kind in con.execute(_COLUMNS, {"only": only}).fetchall():
            columns.setdefault((schema, name), []).append((column, kind))
    found = []
    for name, group in GROUP_OF.items() if only is None else [(only, GROUP_OF[only])]:
        key = f"{LENS}{name}" if f"{LENS}{name}" in NAMES else name
        sql = view_sql(key) if key in (*VIEWS, *NAMES) else None
        old = OLD_COLUMNS.get(name, {}) if key != name else {}
        made = tuple(columns["lens" if key != name else "main", name])
        found.append(View(name, description(name), made, sql, group, OLD_VIEWS.get(name), old))
    return found


def description(name: str) -> str:
    """The comment that opens a view's SQL, or a fact's own words."""
    if f"{LENS}{name}" in NAMES and view_sql(f"{LENS}{name}").startswith("--"):
        return header(f"{LENS}{name}").text
    shown = made_of(name)
    return header(shown).text if shown in VIEWS else FACTS[shown].description
