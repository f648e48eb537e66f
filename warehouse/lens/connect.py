"""The lens: DuckDB views, in memory, over the Parquet facts. It holds no data, so there is nothing to migrate, lock or repair.

A lens sees the shards that were there when it was opened, so that the answers of one reader agree with each other
while an audit is writing. Open another to see more.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.facts.fact import Fact
from warehouse.facts.schema import BIT_SUMS, FACTS, KNOWN_SUMS
from warehouse.facts.shards import written
from warehouse.facts.storage import Root, remembered
from warehouse.lens.needed_views import reached
from warehouse.lens.readonly import QueryTimeout, lock, refuse_writes, refused
from warehouse.lens.reference import header, view_sql

# In the order in which they build on each other; each is views/<name>.sql.
VIEWS = (
    "runs",
    "audits",
    "attribute_sums",
    "annotation_sums",
    "outcomes",
    "fr",
    "judge_fr",
    "confidence",
    "bkl",
    "mnac",
    "annotated",
    "changed",
    "cd",
    "compared",
    "crossed",
    "fid",
    "sfid",
    "kid",
    "crossover_fid",
    "absent",
    "fs",
    "fva",
    "s3",
    "cout",
    "im1",
    "im2",
    "insertion",
    "deletion",
    "distances",
    "diversity",
    "scorecard",
    "buckets",
    "resamples",
    "cd_intervals",
    "attribute_tests",
    "attribute_effects",
    "ranked_attributes",
    "edit_effects",
    "interventions",
    "outside",
    "claims",
    "verdicts",
    "graded",
    "cells",
    "benchmark",
    "image_effects",
    "changes",
    "edit_changes",
    "flip_changes",
    "subgroups",
    "policies",
    "bases",
    "marks",
    "agreement",
    "gate",
    "gate_verdicts",
    "cross_examination",
    "truth_agreement",
    "stage_costs",
    "near_copies",
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
    BIT_SUMS: "struct(v bigint, u bigint, w bigint)",
    KNOWN_SUMS: "struct(n bigint, v bigint, q bigint, w bigint)",
}

SUMS = {"attributes": "attribute_sums", "images": "annotation_sums"}  # fact -> the fact of its sums, shard by shard

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # otherwise a name may mean a variable of the program that asks
}


@dataclass(frozen=True)
class View:
    """A fact or a view that can be asked: its columns as (name, SQL type), and the SQL that makes it; a fact has none."""

    name: str
    description: str
    columns: tuple[tuple[str, str], ...]
    sql: str | None


def open_warehouse(root: Path, from_rows: bool = False, asked: str | None = None) -> duckdb.DuckDBPyConnection:
    """A lens over the facts under root, also when there are none yet. One thread per connection: `.cursor()` for another.

    from_rows: the sums that an audit wrote down are taken anew, from the rows themselves, to check them.
    asked: the one question that will be asked, to lay out no more views than it can reach.
    SQL on it reads this warehouse's facts and no other file, and cannot change a setting or fetch an extension.
    Raises DamagedShard naming the first file that was cut short.
    """
    place = remembered(root)
    con = duckdb.connect(":memory:", config=_SETTINGS)
    if not isinstance(place, Path):
        con.register_filesystem(place.fs)
        con.execute("set parquet_metadata_cache = true")  # or every view that mentions a fact asks for its files' ends again
    con.execute("set timezone = 'UTC'")
    con.execute("create schema facts")
    there = {name: written(place, name) for name in FACTS}
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
    for name in VIEWS if asked is None else reached(asked, VIEWS, tuple(FACTS)):
        con.execute(view_sql(name))
    lock(con, place)
    return con


def _unsummed(rows: dict[str, list[Root]], sums: dict[str, list[Root]]) -> dict[str, list[Root]]:
    """The runs of which a shard has no sums yet."""
    done = {run: {path.name for path in paths} for run, paths in sums.items()}
    return {run: paths for run, paths in rows.items() if not {path.name for path in paths} <= done.get(run, set())}


def query(root: Path, sql: str, seconds: float = 300) -> pa.Table:
    """The answer to one SELECT (also FROM, WITH, DESCRIBE, SUMMARIZE, SHOW) over the facts and views.

    Raises ReadOnlyError for anything else, DamagedShard for a broken file, QueryTimeout after so many seconds, and DuckDB's own
    error for wrong SQL.
    """
    with open_warehouse(root, asked=sql) as con:
        limit = Timer(seconds, con.interrupt)
        limit.start()
        try:
            refuse_writes(con, sql)
            return _with_integers(con.execute(sql).to_arrow_table())
        except duckdb.PermissionException as error:
            raise refused(str(error)) from error
        except duckdb.InterruptException as error:
            raise QueryTimeout(seconds) from error
        finally:
            limit.cancel()


def _with_integers(answer: pa.Table) -> pa.Table:
    """Sums and conditional counts are HUGEINT, which leaves DuckDB as decimal128(38, 0) and then is no number to JSON or pandas.

    As int64 it is one; a column that does not fit stays as it is.
    """
    for i, field in enumerate(answer.schema):
        if field.type == pa.decimal128(38, 0):
            with suppress(pa.ArrowInvalid):
                answer = answer.set_column(i, field.name, answer.column(i).cast(pa.int64()))
    return answer


def views(root: Path) -> list[View]:
    """Everything that can be asked, facts first: name, description and columns as they are in this warehouse."""
    names = [name for name in FACTS if name not in VIEWS] + list(VIEWS)
    with open_warehouse(root) as con:
        return [View(name, _description(name), _columns(con, name), view_sql(name) if name in VIEWS else None) for name in names]


def scan(fact: Fact, runs: dict[str, list[Root]]) -> str:
    """SQL for all rows of a fact, its shards named one by one; no rows of the right types where there are none.

    Shards with the same columns are read together: to let DuckDB unite all by name would read every footer for every view.
    """
    alike: dict[tuple[str, ...], list[Root]] = {}
    for paths in runs.values():  # the shards of one run have the same columns
        columns = tuple(sorted(_names(paths[0]))) if fact.families else ()
        alike.setdefault(columns, []).extend(paths)
    if alike:
        return " union all by name ".join(_read(paths) for paths in alike.values())
    columns = tuple(f"null::{_TYPES[field.type]} as {_identifier(field.name)}" for field in fact.schema)
    return f"select {', '.join(columns)}, null::varchar as run_id where false"


def _names(path: Root) -> list[str]:
    with path.open("rb") as file, pq.ParquetFile(file) as parquet:
        return list(parquet.schema_arrow.names)


def _read(paths: list[Root]) -> str:
    # read_parquet takes every name for a pattern, so what would be one is bracketed.
    names = ("".join(f"[{c}]" if c in "*?[" else c for c in str(path)) for path in paths)
    listed = ", ".join("'" + name.replace("'", "''") + "'" for name in names)
    return f"select * from read_parquet([{listed}], hive_partitioning = true, hive_types = {{'run_id': varchar}})"


def with_derived(con: duckdb.DuckDBPyConnection, fact: Fact, rows: str) -> str:
    """SQL for the rows of a fact with the columns that it gains in the lens.

    attributes: c_<attribute>, -1, 0 or 1, the change of the oracle's bit, where .5 itself is not above threshold. They are
    written out name by name because SQL cannot pair two families of columns; views read the c_ columns as one family.
    A family without any column: one that is always null, because SQL refuses to ask for a family that is not there.
    """
    names = [name for name, _ in _columns(con, rows)]
    empty = [family for family in fact.families if not any(name.startswith(family.prefix) for name in names)]
    derived = [f"null::{_TYPES[family.type]} as {family.prefix}none" for family in empty]
    if fact.name == "attributes":
        derived += [_bit_change(name.removeprefix("p_")) for name in names if name.startswith("p_")]
        derived += ["null::tinyint as c_none"] if empty else []
    return f"select *{''.join(f', {column}' for column in derived)} from ({rows})"


def _bit_change(attribute: str) -> str:
    p, q, c = (_identifier(prefix + attribute) for prefix in ("p_", "q_", "c_"))
    return f"({q} > .5)::tinyint - ({p} > .5)::tinyint as {c}"


def _description(name: str) -> str:
    """The comment that opens a view's SQL, or a fact's own words."""
    return header(name).text if name in VIEWS else FACTS[name].description


def _columns(con: duckdb.DuckDBPyConnection, name: str) -> tuple[tuple[str, str], ...]:
    rows = con.execute(f"describe {name}").fetchall()
    return tuple((str(row[0]), str(row[1])) for row in rows)


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
