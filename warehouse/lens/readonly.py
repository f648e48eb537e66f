"""Read-only in effect: what a lens may touch, and which statements only read."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import duckdb

from cfx.errors import UserError
from warehouse.facts.storage import Root
from warehouse.lens.fetch import printed
from warehouse.lens.scans import pattern_of

_EXPLAIN = re.compile(r"\s*explain\b(?:\s*\(\s*(?:analyze|format)\b[\w\s,]*\)|\s+analyze\b)?", re.IGNORECASE)


class ReadOnlyError(UserError):
    """A statement that is not one plain query over the warehouse."""


class QueryTimeout(UserError):
    """A query that took longer than it may."""

    def __init__(self, seconds: float, longer: str = "raise --timeout") -> None:
        super().__init__(f"query timed out after {seconds:g} s; {longer}, or query fewer rows")


class QueryTooLarge(UserError):
    """A query that needs more memory than it may have."""

    def __init__(self, gib: float, larger: str) -> None:
        super().__init__(
            f"the query needs more than {gib:g} GiB of memory, or twice that on the disk; {larger}, or query less at once"
        )


def refused(reason: str) -> ReadOnlyError:
    """The refusal, with its reason and the way out."""
    return ReadOnlyError(
        f"the warehouse is read-only; query it with one SELECT over the facts and views that `cfx views` lists ({reason})"
    )


def lock(con: duckdb.DuckDBPyConnection, root: Root) -> None:
    """From here on the connection reaches files of this warehouse only, fetches no extension and keeps its settings."""
    folder = str(root / "facts")
    # DuckDB compares the name of a file that it opens, but the pattern of one that it looks for.
    con.execute(printed("set allowed_directories = [$folder, $pattern]", folder=folder, pattern=pattern_of(folder)))
    con.execute("set enable_external_access = false")
    con.execute("set lock_configuration = true")


def spill_of(root: Root) -> str:
    """Where a lens puts what does not fit into memory."""
    return str((root if isinstance(root, Path) else Path(tempfile.gettempdir())) / "tmp")


def refuse_writes(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raises ReadOnlyError unless sql is exactly one statement that only reads, or EXPLAIN of one."""
    whole, sql = sql, read_by(sql)
    if sql != whole and [statement.type for statement in con.extract_statements(whole)] != [duckdb.StatementType.EXPLAIN]:
        raise refused("this is not one statement")
    statements = _without_types_of_pivot(con.extract_statements(sql.rstrip().removesuffix(";")))
    if len(statements) != 1:
        raise refused(f"this is {len(statements)} statements")
    statement = statements[0]
    if statement.type != duckdb.StatementType.SELECT:
        raise refused(f"this is {statement.type.name}")
    if statement.query not in sql:  # a pragma is rewritten into a SELECT
        raise refused("this is a pragma")


def read_by(sql: str) -> str:
    """What an EXPLAIN explains, or runs to see what it takes; any other statement is itself.

    Only blanks may stand between the words that are taken off: what follows them then means the same without them.
    """
    found = _EXPLAIN.match(sql)
    return sql[found.end() :] if found else sql


def _without_types_of_pivot(statements: list[duckdb.Statement]) -> list[duckdb.Statement]:
    """DuckDB makes two or more statements of a PIVOT that does not list its values: types for the connection, which it makes of
    the data, and the SELECT. They have no text of their own, as every statement that somebody wrote has."""
    kinds = [statement.type for statement in statements]
    made = len(kinds) > 1 and kinds == [duckdb.StatementType.CREATE] * (len(kinds) - 1) + [duckdb.StatementType.SELECT]
    return statements[-1:] if made and not any(statement.query for statement in statements) else statements
