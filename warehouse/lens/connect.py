"""The lens: DuckDB views, in memory, over the Parquet facts. It holds no data, so there is nothing to migrate, lock or repair.

A lens sees the shards that were there when it was opened, so that the answers of one reader agree with each other
while an audit is writing. Open another to see more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Timer

import duckdb
import pyarrow as pa

from warehouse.facts.schema import FACTS
from warehouse.lens.catalog import LENS, NAMES, VIEWS, header, view_sql
from warehouse.lens.groups import GROUP_OF
from warehouse.lens.kept import open_all
from warehouse.lens.named_runs import runs_read
from warehouse.lens.names import OLD_COLUMNS, OLD_VIEWS, made_of
from warehouse.lens.open_lens import SETTINGS, left_out_of, open_facts, open_runs, open_warehouse, read_into
from warehouse.lens.readonly import QueryTimeout, read_by, refuse_writes, refused
from warehouse.lens.wholeness import (
    left_out,
    left_out_in_words,
    refuse_named,
)

__all__ = [
    "SETTINGS",
    "View",
    "answered",
    "description",
    "left_out_of",
    "open_facts",
    "open_runs",
    "open_warehouse",
    "query",
    "read_into",
    "views",
]

BATCH = 8192  # rows that DuckDB hands over at once: of a million, images take more room than they need
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


def query(
    root: Path,
    sql: str,
    values: Mapping[str, object] | None = None,
    seconds: float = 300,
    most: int | None = None,
    lens: bool = False,
) -> pa.Table:
    """The answer to one SELECT (also FROM, WITH, PIVOT, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN of one) over the facts and views.

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
    if not sql.isascii() and sql != sql.encode(errors="ignore").decode():
        raise refused("it holds half a character (a lone surrogate), which no text has")
    runs = runs_read(root, read_by(sql), values or {})
    try:
        return _answered(root, sql, values, seconds, most, lens, runs)
    except (duckdb.BinderException, duckdb.CatalogException):
        if runs is None:
            raise
        return _answered(root, sql, values, seconds, most, lens, None)  # a column that other runs alone have is null in these


def _answered(
    root: Path,
    sql: str,
    values: Mapping[str, object] | None,
    seconds: float,
    most: int | None,
    lens: bool,
    runs: Collection[str] | None,
) -> tuple[pa.Table, list[str]]:
    asked = read_by(sql)
    with (
        open_warehouse(root, sql=asked, lens=lens, runs=runs) if runs is not None else open_all(root, asked, lens, seconds) as con
    ):
        refuse_named(con, sql, (values or {}).values())
        limit = Timer(seconds, con.interrupt)
        limit.start()
        try:
            refuse_writes(con, sql)
            answer = con.execute(sql, values or None)
            rows = _with_integers(_told_apart(answer.to_arrow_table(BATCH) if most is None else _first(answer, most)))
        except duckdb.PermissionException as error:
            raise refused(str(error)) from error
        except duckdb.InterruptException as error:
            raise QueryTimeout(seconds) from error
        finally:
            limit.cancel()
        return rows, left_out_in_words(left_out(con))


def _first(answer: duckdb.DuckDBPyConnection, most: int) -> pa.Table:
    """The first rows; those after them are not computed where DuckDB need not."""
    reader = answer.to_arrow_reader(min(most, BATCH))
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
