"""Which views a question can reach by the names in it: to lay out all of them takes DuckDB longer than most questions do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from warehouse.lens.catalog import macros, view_sql

_CATALOGUE = re.compile(r"\b(show|duckdb_\w+|information_schema|pg_\w+)\b")


def reached(sql: str, views: Sequence[str], facts: Sequence[str]) -> list[str]:
    """The views that are named in sql, and those that these are made of, in the order given.

    All of them for a question about the catalogue, or one that names nothing that there is: its error then knows every name.
    """
    asked = _words(sql)
    if _CATALOGUE.search(sql.lower()) or not asked & {*views, *facts, *_homes(tuple(views))}:
        return list(views)
    wanted, new = set[str](), _named(asked, tuple(views))
    while new:
        wanted |= new
        new = set().union(*(_made_of(name, tuple(views)) for name in new)) - wanted
    return [name for name in views if name in wanted]


@cache
def _made_of(name: str, views: tuple[str, ...]) -> frozenset[str]:
    return frozenset(_named(_words(re.sub("--.*", "", view_sql(name))), views))


def _named(words: set[str], views: tuple[str, ...]) -> set[str]:
    homes = _homes(views)
    return {homes.get(word, word) for word in words if word in homes or word in views}


@cache
def _homes(views: tuple[str, ...]) -> dict[str, str]:
    """Macro -> the view whose file makes it."""
    return {call.partition("(")[0]: name for name in views for call in macros(name)}


def _words(sql: str) -> set[str]:
    return set(re.findall(r"\w+", sql.lower()))
