"""Read-only in effect: what a lens may touch, and which statements only read."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb

from cfx.errors import UserError
from warehouse.facts.storage import Root
from warehouse.lens.fetch import printed
from warehouse.lens.scans import pattern_of


class ReadOnlyError(UserError):
    """A statement that is not one plain query over the warehouse."""


class QueryTimeout(UserError):
    """A query that took longer than it may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"query timed out after {seconds:g} s; raise --timeout, or query fewer rows")


def refused(reason: str) -> ReadOnlyError:
    """The refusal, with its reason and the way out."""
    return ReadOnlyError(
        f"the warehouse is read-only; query it with one SELECT over the facts and views that `cfx views` lists ({reason})"
    )


def lock(con: duckdb.DuckDBPyConnection, root: Root) -> None:
    """From here on the connection reaches files of this warehouse only, fetches no extension and keeps its settings."""
    folder = str(root / "facts")
    spill = root if isinstance(root, Path) else Path(tempfile.gettempdir())
    con.execute(printed("set temp_directory = $spill", spill=str(spill / "tmp")))
    # DuckDB compares the name of a file that it opens, but the pattern of one that it looks for.
    con.execute(printed("set allowed_directories = [$folder, $pattern]", folder=folder, pattern=pattern_of(folder)))
    con.execute("set enable_external_access = false")
    con.execute("set lock_configuration = true")


def refuse_writes(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raises ReadOnlyError unless sql is exactly one statement that only reads."""
    statements = con.extract_statements(sql)
    if len(statements) != 1:
        raise refused(f"this is {len(statements)} statements")
    statement = statements[0]
    if statement.type != duckdb.StatementType.SELECT:
        raise refused(f"this is {statement.type.name}")
    if statement.query not in sql:  # a pragma is rewritten into a SELECT
        raise refused("this is a pragma")
