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
import pyarrow.parquet as pq

from warehouse.facts.schema import FACTS
from warehouse.facts.shards import written
from warehouse.facts.storage import Root, name_in, remembered
from warehouse.lens.catalog import LENS, NAMES, SUMS, VIEWS, header, view_sql
from warehouse.lens.groups import GROUP_OF
from warehouse.lens.names import OLD_COLUMNS, OLD_VIEWS, made_of
from warehouse.lens.needed_views import needed_views
from warehouse.lens.readonly import QueryTimeout, lock, refuse_writes, refused
from warehouse.lens.scans import scan, with_derived

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
    runs: Collection[str] | None = None,
) -> duckdb.DuckDBPyConnection:
    """A lens over the facts under root, also when there are none yet. One thread per connection: `.cursor()` for another.

    from_rows: the sums that an audit wrote down are made anew from the rows themselves, to check them.
    sql: the one query that will be run, to lay out no more views than it needs.
    lens: a name means the view of the schema `lens` first, the names that people write (`warehouse.lens.names`).
    without: files that are left out, named relative to the warehouse: the facts as they were before those came.
    runs: these alone, and the edits that they used: it costs what they cost, whatever else is there; None: every run.
    SQL on it reads this warehouse's facts and no other file, and cannot change a setting or fetch an extension.
    Raises DamagedShard naming the first file that was cut short.
    """
    place = remembered(root)
    there = {name: _without(place, paths, without) for name, paths in _files(place, runs).items()}
    files = (place, state_of_files(paths for by_run in there.values() for paths in by_run.values()))
    lasting = isinstance(place, Path)
    with _LAYING:
        laid = _last.get(from_rows)
        if laid is None or not lasting or laid.files != files:
            laid = _Laid(files, _facts_laid_out(place, there, from_rows), set())
        every = (*VIEWS, *NAMES) if lens else VIEWS
        for name in every if sql is None else needed_views(sql, lens):
            if name not in laid.views:
                laid.con.execute(view_sql(name))
                laid.views.add(name)
        if lasting:
            _last[from_rows] = laid
        con = laid.con.cursor() if lasting else laid.con
        if lens:
            con.execute("set search_path = 'lens,main'")
        return con


State: TypeAlias = tuple[tuple[str, int, int], ...]  # of files: name, time, size


class _Laid(NamedTuple):
    """A database over these files, and the views that it has so far: to lay them out takes longer than most queries."""

    files: tuple[Root, State]
    con: duckdb.DuckDBPyConnection
    views: set[str]


_LAYING = Lock()
_last: dict[bool, _Laid] = {}  # by from_rows: the last one is used again for as long as no file comes, goes or changes


def _files(place: Root, runs: Collection[str] | None) -> dict[str, dict[str, list[Root]]]:
    """By fact and run the files that a lens reads: every one, or those of these runs, and of the edits that they used."""
    if runs is None:
        return {name: written(place, name) for name in FACTS}
    found = {name: {run: paths for each in runs for run, paths in written(place, name, each).items()} for name in FACTS}
    used = {edits for paths in found["effects"].values() for path in paths for edits in _values(path, "edits")}
    return found | {"edits": {run: paths for each in sorted(used) for run, paths in written(place, "edits", each).items()}}


def _values(path: Root, column: str) -> set[str]:
    """The values of a column of names."""
    with path.open("rb") as file, pq.ParquetFile(file) as parquet:
        return set(parquet.read(columns=[column])[column].to_pylist())


def _without(place: Root, runs: dict[str, list[Root]], left_out: Collection[str]) -> dict[str, list[Root]]:
    if not left_out:
        return runs
    kept = {run: [path for path in paths if name_in(place, path) not in left_out] for run, paths in runs.items()}
    return {run: paths for run, paths in kept.items() if paths}


def open_runs(root: Path, run_ids: Sequence[str], sql: str | None = None) -> duckdb.DuckDBPyConnection:
    """A lens that sees these runs alone, and the edits that they used: it costs what they cost, whatever else is there.

    The database is the caller's own, so that what the caller makes in it changes no other reader's answers.
    sql: as of `open_warehouse`. Raises DamagedShard naming the first file of these runs that was cut short.
    """
    place = remembered(root)
    con = _facts_laid_out(place, _files(place, run_ids), from_rows=False)
    _lay_out(con, VIEWS if sql is None else needed_views(sql))
    return con


def open_facts(root: Path, facts: Sequence[str], sql: str) -> duckdb.DuckDBPyConnection:
    """A lens over every run, in which only these facts have rows: for a query that needs no other."""
    place = remembered(root)
    con = _facts_laid_out(place, {name: written(place, name) if name in facts else {} for name in FACTS}, from_rows=False)
    _lay_out(con, needed_views(sql))
    return con


def read_into(con: duckdb.DuckDBPyConnection, name: str, paths: Sequence[Root]) -> None:
    """Let a lens of `open_runs` hold the rows of these shards of a plain fact, beside those that it was given so before.

    Where people add a small shard every few seconds, each is then read once, and no query opens them all.
    """
    by_run: dict[str, list[Root]] = {}
    for path in paths:
        by_run.setdefault(path.parent.name.removeprefix("run_id="), []).append(path)
    con.execute(f"create table if not exists facts.read_{name} as {scan(FACTS[name], {})}")
    con.execute(f"create or replace view facts.{name} as from facts.read_{name}")
    con.execute(f"insert into facts.read_{name} by name {scan(FACTS[name], by_run)}")


def _lay_out(con: duckdb.DuckDBPyConnection, views: Iterable[str]) -> None:
    for name in views:
        con.execute(view_sql(name))


def state_of_files(files: Iterable[Sequence[Root]]) -> State:
    """Local files, each with its time and size; nothing of an object store's."""
    paths = (path for each in files for path in each if isinstance(path, Path))
    return tuple((str(path), (known := path.stat()).st_mtime_ns, known.st_size) for path in paths)


def _facts_laid_out(place: Root, there: dict[str, dict[str, list[Root]]], from_rows: bool) -> duckdb.DuckDBPyConnection:
    """A database in memory with the facts and no view yet, locked."""
    con = duckdb.connect(":memory:", config=SETTINGS)
    if not isinstance(place, Path):
        con.register_filesystem(place.fs)
        con.execute("set parquet_metadata_cache = true")  # or every view that mentions a fact asks for its files' ends again
    con.execute("set global timezone = 'UTC'")
    con.execute("create schema facts")
    con.execute("create schema lens")
    unsummed = {name: there[name] if from_rows else _unsummed(there[name], there[sums]) for name, sums in SUMS.items()}
    for name, sums in SUMS.items():
        there[sums] = {run: paths for run, paths in there[sums].items() if run not in unsummed[name]}
    for name, fact in FACTS.items():
        con.execute(f"create view facts.{name} as {scan(fact, there[name])}")
        if name not in VIEWS:
            con.execute(f"create view {name} as {with_derived(con, fact, f'from facts.{name}')}")
    for name, runs in unsummed.items():
        rows = scan(FACTS[name], runs) if runs else f"from facts.{name} where false"
        con.execute(f"create view facts.unsummed_{name} as {with_derived(con, FACTS[name], rows)}")
    lock(con, place)
    return con


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
    Raises ReadOnlyError for anything else, DamagedShard for a broken file, QueryTimeout after so many seconds, and DuckDB's own
    error for wrong SQL.
    """
    with open_warehouse(root, sql=sql, lens=lens) as con:
        limit = Timer(seconds, con.interrupt)
        limit.start()
        try:
            refuse_writes(con, sql)
            answer = con.execute(sql, values or None)
            return _with_integers(_told_apart(answer.to_arrow_table() if most is None else _first(answer, most)))
        except duckdb.PermissionException as error:
            raise refused(str(error)) from error
        except duckdb.InterruptException as error:
            raise QueryTimeout(seconds) from error
        finally:
            limit.cancel()


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
