"""Which views a query needs: to lay out all of them takes DuckDB longer than most queries do.

DuckDB's own parser says which tables and functions a query names (`json_serialize_sql`), so a name in a comment, a string or a
column counts for nothing, and a CTE hides the view of its name where the query itself sees the CTE.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import TypeAlias

import duckdb

from warehouse.facts.schema import FACTS
from warehouse.lens.catalog import LENS, NAMES, VIEWS, macros, view_sql
from warehouse.lens.fetch import printed

Json: TypeAlias = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

_CREATES = re.compile(r"create\s+(?:view|macro)\s+[\w.]+\s*(?:\([^)]*\))?\s+as\s+(?:table\s+)?", re.IGNORECASE)
_QUERY = re.compile(r"(?:select|from|with)\b", re.IGNORECASE)  # otherwise it is a macro's expression
_FACTS = "facts."  # before the name of a fact
_EVERY_FACT = "facts.*"
DAMAGED, LEFT_OUT = "damaged", "left_out"  # of the schema `facts`: what is wrong in the facts that a lens reads
UNSUMMED = "unsummed_"  # before the name of a fact: its rows that no sums were made of
_ANY = "*"  # a name that may mean any view: the catalogue's own tables, `show tables`, query_table(...), one that is not there
_OPEN_ENDED = re.compile(r"query|query_table|(?:duckdb|pragma|sqlite|pg)_\w+")


def needed_views(sql: str, lens: bool = False) -> list[str]:
    """The views that sql reads, and those that these are made of, in the order in which they build on each other.

    lens: a name without a schema is first one of the schema `lens`, whose views come last, as `lens.<name>`.
    All of them where DuckDB cannot parse it, or where it reads the catalogue or a table that is not there: its error then knows
    every name, as `warehouse.lens.ask` does of the schema `lens`.
    """
    every = (*VIEWS, *NAMES) if lens else VIEWS
    wanted = _needed(sql, lens)
    return list(every) if _ANY in wanted else [name for name in every if name in wanted]


def needed_facts(sql: str, lens: bool = False) -> list[str]:
    """The facts that sql reads, itself or through views; all of them where it needs every view. lens: as of `needed_views`."""
    wanted = _needed(sql, lens)
    return list(FACTS) if wanted & {_ANY, _EVERY_FACT} else [name for name in FACTS if f"{_FACTS}{name}" in wanted]


@lru_cache(maxsize=256)
def _needed(sql: str, lens: bool) -> frozenset[str]:
    """The views and, as `facts.<name>`, the facts that sql needs; _ANY among them: all."""
    new = _names(sql, lens)
    wanted = set[str]()
    while new and _ANY not in wanted:
        wanted |= new
        new = set().union(*(_reads(name) for name in new)) - wanted
    return frozenset(wanted)


@cache
def _reads(name: str) -> frozenset[str]:
    """The views and facts that a view reads, and the views whose files make its macros."""
    if name == _ANY or name.startswith(_FACTS):
        return frozenset()
    return frozenset().union(*(_names(sql, False) for sql in _selects(name))) - {name}


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """DuckDB as a parser alone: it has no tables."""
    return duckdb.connect(":memory:", config={"threads": 1})


def _selects(name: str) -> Iterator[str]:
    """What the views and macros of a view's file are made of, each as a SELECT: the parser writes out no other statement."""
    for statement in _parser().cursor().extract_statements(view_sql(name)):
        made_of = _CREATES.split(statement.query, maxsplit=1)[-1]
        yield made_of if _QUERY.match(made_of) else f"select {made_of}"


def _names(sql: str, lens: bool) -> set[str]:
    """The views and facts, or _ANY, that sql names itself."""
    statements = parsed(sql)
    return {_ANY} if statements is None else {view for name in _read(statements, frozenset()) if (view := _view(name, lens))}


@lru_cache(maxsize=64)
def parsed(sql: str) -> Json:
    """The statements of sql as DuckDB's parser writes them out; None where it cannot."""
    (written,) = _parser().cursor().execute(printed("select json_serialize_sql($sql)", sql=sql)).fetchone() or ("{}",)
    found = json.loads(written)
    return None if found.get("error", True) else found["statements"]


def _view(name: str, lens: bool) -> str | None:
    """The view, or `facts.<name>`, that a table's name means, `schema.table` or `.table`; None for none."""
    schema, _, table = name.partition(".")
    if schema == "lens" or (lens and not schema and f"{LENS}{table}" in NAMES):
        return f"{LENS}{table}" if f"{LENS}{table}" in NAMES else _ANY
    if schema in ("", "main") and table in VIEWS:
        return table
    if schema == "facts" and table in (DAMAGED, LEFT_OUT):
        return _EVERY_FACT
    if schema == "facts":
        return f"{_FACTS}{table.removeprefix(UNSUMMED)}" if table.removeprefix(UNSUMMED) in FACTS else _ANY
    if schema in ("", "main") and table in FACTS:
        return f"{_FACTS}{table}"
    return None if lens and not schema and not _OPEN_ENDED.fullmatch(table) else _ANY  # `ask` knows the names itself


def _read(node: Json, ctes: frozenset[str]) -> Iterator[str]:
    """The tables that a part of a parsed query names where these CTEs are in sight, as `schema.table` or `.table`, or _ANY."""
    if isinstance(node, list):
        for part in node:
            yield from _read(part, ctes)
    if not isinstance(node, dict):
        return
    match node:
        case {"type": "BASE_TABLE", "schema_name": str(schema), "table_name": str(table)}:
            if schema or table.lower() not in ctes:
                yield f"{schema}.{table}".lower()
        case {"type": "SHOW_REF", "query": None}:
            yield _ANY
        case {"function_name": str(function)}:
            yield from _of_function(function.lower())
    if isinstance(node.get("cte_name"), str):  # a recursive one: it sees itself
        ctes |= {str(node["cte_name"]).lower()}
    match node.get("cte_map"):
        case {"map": list(entries)}:
            for entry in entries:
                assert isinstance(entry, dict)
                yield from _read(entry["value"], ctes)
                ctes |= {str(entry["key"]).lower()}
    for key, part in node.items():
        if key != "cte_map":
            yield from _read(part, ctes)


def _of_function(function: str) -> Iterator[str]:
    if function in _homes():
        yield f"main.{_homes()[function]}"
    elif _OPEN_ENDED.fullmatch(function):
        yield _ANY


@cache
def _homes() -> dict[str, str]:
    """Macro -> the view whose file makes it."""
    return {call.partition("(")[0]: name for name in VIEWS for call in macros(name)}
