"""SQL over the shards of a fact: its rows, and the columns that they gain in the lens."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from cfx.errors import UserError
from cfx.version import __version__
from warehouse.facts.fact import VERSION, Fact
from warehouse.facts.schema import BIT_SUMS, KNOWN_SUMS, WORDED
from warehouse.facts.storage import Root
from warehouse.lens.fetch import literal

_TYPES = {
    pa.string(): "varchar",
    pa.binary(): "blob",
    pa.bool_(): "boolean",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.timestamp("us", tz="UTC"): "timestamptz",
    pa.date32(): "date",
    pa.list_(pa.string()): "varchar[]",
    pa.list_(pa.int64()): "bigint[]",
    pa.list_(pa.float32()): "float[]",
    BIT_SUMS: "struct(v bigint, u bigint, w bigint)",
    KNOWN_SUMS: "struct(n bigint, v bigint, q bigint, w bigint)",
}
_TYPES[pa.list_(WORDED)] = "struct(" + ", ".join(f'"{part.name}" {_TYPES[part.type]}' for part in WORDED) + ")[]"


class NewerFacts(UserError):
    """Facts that a newer version of cfx wrote, in a form that this one does not know."""

    def __init__(self, path: Root, version: str) -> None:
        super().__init__(
            f"{path} was written by a newer cfx, in version {version} of the facts; this is cfx {__version__}, which reads "
            f"version {VERSION}: use the newer one for this warehouse (pip install --upgrade cfx-audit), or another warehouse"
        )


def scan(fact: Fact, runs: dict[str, list[Root]]) -> str:
    """SQL for all rows of a fact, its shards named one by one; no rows of the right types where there are none.

    Shards with the same columns are read together: to let DuckDB unite all by name would read every footer for every view.
    Columns that this version does not know are not read. Raises NewerFacts for shards of a form that it does not know.
    """
    alike: dict[tuple[str, ...], list[Root]] = {}
    for paths in runs.values():
        # The shards that an audit writes have the same columns; what people set later may be of another version.
        for together in [[path] for path in paths] if "written" in fact.schema.names else [paths]:
            columns = tuple(sorted(_names(together[0]))) if fact.families or fact.gained else tuple(fact.schema.names)
            alike.setdefault(columns, []).extend(together)
    parts = [_read(paths, _known(fact, columns)) for columns, paths in alike.items()]
    if fact.gained or not parts:  # also where every shard is older than a column
        columns = tuple(f"null::{_TYPES[field.type]} as {identifier(field.name)}" for field in fact.schema)
        parts.append(f"select {', '.join(columns)}, null::varchar as run_id where false")
    return " union all by name ".join(parts)


def _names(path: Root) -> list[str]:
    with path.open("rb") as file, pq.ParquetFile(file) as parquet:
        schema = parquet.schema_arrow
    version = (schema.metadata or {}).get(b"version", VERSION.encode()).decode()
    if version != VERSION:
        raise NewerFacts(path, version)
    return list(schema.names)


def _known(fact: Fact, columns: tuple[str, ...]) -> str:
    """Those of the columns that this version knows: a newer one may have written more, into some shards and not into others."""
    known = (name for name in fact.schema.names if name in columns)
    wide = (name for name in columns if fact.family(name) is not None)
    return ", ".join(identifier(name) for name in dict.fromkeys((*known, *wide, "run_id")))


def _read(paths: list[Root], columns: str) -> str:
    listed = ", ".join(literal(pattern_of(str(path))) for path in paths)
    return f"select {columns} from read_parquet([{listed}], hive_partitioning = true, hive_types = {{'run_id': varchar}})"


def pattern_of(name: str) -> str:
    """The pattern that matches this file alone: DuckDB takes every name for a pattern."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def with_derived(con: duckdb.DuckDBPyConnection, fact: Fact, rows: str) -> str:
    """SQL for the rows of a fact with the columns that it gains in the lens.

    attributes: c_<attribute>, -1, 0 or 1, the change of the oracle's bit, where .5 itself is not above threshold. They are
    written out name by name because SQL cannot pair two families of columns; views read the c_ columns as one family.
    A family without any column: one that is always null, because SQL refuses to ask for a family that is not there.
    """
    names = [name for name, _ in columns_of(con, rows)]
    empty = [family for family in fact.families if not any(name.startswith(family.prefix) for name in names)]
    derived = [f"null::{_TYPES[family.type]} as {family.prefix}none" for family in empty]
    if fact.name == "attributes":
        derived += [_bit_change(name.removeprefix("p_")) for name in names if name.startswith("p_")]
        derived += ["null::tinyint as c_none"] if empty else []
    return f"select *{''.join(f', {column}' for column in derived)} from ({rows})"


def _bit_change(attribute: str) -> str:
    p, q, c = (identifier(prefix + attribute) for prefix in ("p_", "q_", "c_"))
    return f"({q} > .5)::tinyint - ({p} > .5)::tinyint as {c}"


def columns_of(con: duckdb.DuckDBPyConnection, source: str) -> tuple[tuple[str, str], ...]:
    """Columns as (name, SQL type) of a fact, a view or `from ...`."""
    rows = con.execute(f"describe {source}").fetchall()
    return tuple((str(row[0]), str(row[1])) for row in rows)


def identifier(name: str) -> str:
    """A name as SQL writes one that may hold anything."""
    return '"' + name.replace('"', '""') + '"'
