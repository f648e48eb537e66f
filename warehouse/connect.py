"""The lens: DuckDB views, in memory, over the Parquet facts. It holds no data, so there is nothing to migrate, lock or repair.

A lens sees the shards that were there when it was opened, so that the answers of one reader agree with each other
while an audit is writing. Open another to see more.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.schema import FACTS, Fact
from warehouse.shards import DamagedShard

# In the order in which they build on each other; each is views/<name>.sql.
VIEWS: tuple[str, ...] = (
    "runs",
    "outcomes",
    "fr",
    "judge_fr",
    "mnac",
    "cd",
    "scorecard",
    "buckets",
    "resamples",
    "attribute_effects",
    "ranked_attributes",
)

_TYPES = {
    pa.string(): "varchar",
    pa.binary(): "blob",
    pa.bool_(): "boolean",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.timestamp("us", tz="UTC"): "timestamptz",
    pa.list_(pa.string()): "varchar[]",
    pa.list_(pa.int64()): "bigint[]",
    pa.list_(pa.float32()): "float[]",
}


class ReadOnlyError(ValueError):
    """A statement that is not one plain question."""


@dataclass(frozen=True)
class View:
    """A fact or a view that can be asked: its columns as (name, SQL type)."""

    name: str
    description: str
    columns: tuple[tuple[str, str], ...]


def open_warehouse(root: Path) -> duckdb.DuckDBPyConnection:
    """A lens over the facts under root, also when there are none yet. One thread per connection: `.cursor()` for another.

    SQL on it reads this warehouse's facts and no other file, and cannot change a setting or fetch an extension.
    Raises DamagedShard naming the first file that is not whole Parquet.
    """
    root = root.resolve()
    con = duckdb.connect(":memory:", config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    con.execute("set timezone = 'UTC'")
    con.execute("create schema facts")
    shards = {name: sorted((root / "facts" / name).glob("run_id=*/[!.]*.parquet")) for name in FACTS}
    try:
        for name, paths in shards.items():
            con.execute(f"create view facts.{name} as {_select(FACTS[name], paths)}")
            if name not in VIEWS:
                con.execute(f"create view {name} as select *{_bit_changes(con, name)} from facts.{name}")
        for name in VIEWS:
            con.execute(view_sql(name))
    except duckdb.Error as error:
        raise _damaged(shards) or error from error
    _lock(con, root)
    return con


def query(root: Path, sql: str) -> pa.Table:
    """The answer to one SELECT (also FROM, WITH, DESCRIBE, SUMMARIZE, SHOW) over the facts and views.

    Raises ReadOnlyError for anything else, DamagedShard for a broken file, and DuckDB's own error for wrong SQL.
    """
    con = open_warehouse(root)
    try:
        _refuse_writes(con, sql)
        return con.execute(sql).to_arrow_table()
    except duckdb.PermissionException as error:
        raise ReadOnlyError(f"{_REFUSAL}: {error}") from error
    finally:
        con.close()


def views(root: Path) -> list[View]:
    """Everything that can be asked, facts first: name, description and columns as they are in this warehouse."""
    con = open_warehouse(root)
    try:
        names = [name for name in FACTS if name not in VIEWS] + list(VIEWS)
        return [View(name, _description(name), _columns(con, name)) for name in names]
    finally:
        con.close()


def view_sql(name: str) -> str:
    """The text of views/<name>.sql."""
    return (files("warehouse") / "views" / f"{name}.sql").read_text(encoding="utf-8")


_REFUSAL = "the warehouse is read-only; ask one SELECT over the facts and views that `cfx views` lists"


def _refuse_writes(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raises ReadOnlyError unless sql is exactly one statement that only reads."""
    statements = con.extract_statements(sql)
    if len(statements) != 1:
        raise ReadOnlyError(f"{_REFUSAL}: this is {len(statements)} statements")
    statement = statements[0]
    # DuckDB rewrites a pragma into a SELECT whose text is not what was asked.
    if statement.type != duckdb.StatementType.SELECT or statement.query not in sql:
        raise ReadOnlyError(f"{_REFUSAL}: this is {statement.type.name}")


def _select(fact: Fact, paths: list[Path]) -> str:
    """SQL for all rows of a fact: its shards by name, or no rows of the right types."""
    if paths:
        listed = ", ".join(_literal(_unglobbed(path)) for path in paths)
        return (
            f"select * from read_parquet([{listed}], union_by_name = true, hive_partitioning = true, "
            "hive_types = {'run_id': varchar})"
        )
    fields = [*fact.schema, *(pa.field(family.prefix + "none", family.type) for family in fact.families)]
    columns = ", ".join(f"null::{_TYPES[field.type]} as {_identifier(field.name)}" for field in fields)
    return f"select {columns}, null::varchar as run_id where false"


def _bit_changes(con: duckdb.DuckDBPyConnection, fact: str) -> str:
    """SQL for the columns c_<attribute>: -1, 0 or 1, the change of the oracle's bit, where .5 itself is not above threshold.

    Written out name by name because SQL cannot pair two families of columns; every other view reads the c_ columns as a family.
    """
    if fact != "attributes":
        return ""
    attributes = [name[2:] for name, _ in _columns(con, "facts.attributes") if name.startswith("p_")]
    pairs = [(_identifier(f"p_{name}"), _identifier(f"q_{name}"), _identifier(f"c_{name}")) for name in attributes]
    return "".join(f", ({q} > .5)::tinyint - ({p} > .5)::tinyint as {c}" for p, q, c in pairs)


def _lock(con: duckdb.DuckDBPyConnection, root: Path) -> None:
    """From here on: files of this warehouse only, no extension, no setting."""
    con.execute(f"set temp_directory = {_literal(str(root / 'tmp'))}")
    allowed = sorted({str(root / "facts"), _unglobbed(root / "facts")})  # DuckDB compares the name opened and the pattern asked for
    con.execute(f"set allowed_directories = [{', '.join(map(_literal, allowed))}]")
    con.execute("set enable_external_access = false")
    con.execute("set lock_configuration = true")


def _damaged(shards: dict[str, list[Path]]) -> DamagedShard | None:
    """The error for the first shard whose footer cannot be read."""
    for path in (path for paths in shards.values() for path in paths):
        try:
            pq.read_metadata(path)
        except pa.ArrowInvalid:
            return DamagedShard(path)
    return None


def _description(name: str) -> str:
    """The comment that opens a view's SQL, or a fact's own words."""
    if name not in VIEWS:
        return FACTS[name].description
    lines = view_sql(name).splitlines()
    header = lines[: next(i for i, line in enumerate(lines) if not line.startswith("--"))]
    return " ".join(line.removeprefix("--").strip() for line in header)


def _columns(con: duckdb.DuckDBPyConnection, name: str) -> tuple[tuple[str, str], ...]:
    rows = con.execute(f"describe {name}").fetchall()
    return tuple((str(row[0]), str(row[1])) for row in rows)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _unglobbed(path: Path) -> str:
    """The path with glob characters bracketed, because read_parquet takes every name for a pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in str(path))
