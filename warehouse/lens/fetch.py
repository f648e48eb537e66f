"""Values go into SQL as parameters, `$run`, never as text: a run id is what somebody called an audit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # a command line that only prints need not load it
    import duckdb

Row: TypeAlias = dict[str, Any]  # what a row holds is known to its SQL alone

_PARTS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\$(?P<name>\w+)""")


def fetch(lens: duckdb.DuckDBPyConnection, sql: str, /, **values: object) -> list[Row]:
    """Every row of an answer, by column. values: those of the parameters, `$name`. Raises DuckDB's error for wrong SQL."""
    answer = lens.execute(sql, values) if values else lens.execute(sql)
    names = [column[0] for column in answer.description or []]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


def printed(sql: str, /, **values: str | int) -> str:
    """SQL with its values written out: for people to read and to ask again, and where DuckDB takes no parameter, as in a view.

    The program itself asks with parameters, except at its start: the first one makes DuckDB import pandas (0.3 s of CPU).
    """

    def written(part: re.Match[str]) -> str:
        return literal(values[part["name"]]) if part["name"] else part[0]

    return _PARTS.sub(written, sql)


def literal(value: str | int) -> str:
    """A value as SQL writes it."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)
