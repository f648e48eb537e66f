"""A person's query: under the names that people write, with notes on old ones, and the nearest where one is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import duckdb
import pyarrow as pa

from cfx.errors import UserError
from warehouse.lens.connect import answered, open_warehouse
from warehouse.lens.groups import GROUP_OF, GROUPS, IMAGES
from warehouse.lens.names import OLD_COLUMNS, OLD_VIEWS
from warehouse.lens.needed_views import Json, parsed
from warehouse.lens.scans import columns_of, identifier

_ALIKE = 0.7  # of two names, `difflib`'s ratio above which one may be meant for the other
_VIEWS_MEANT = {  # what people call it -> what it is called
    "models": ("runs",), "audit": ("runs",), "metrics": ("scorecard",), "scores": ("scorecard",), "results": ("findings",),
    "groups": ("worst_groups", "subgroups"), "accuracy_by_group": ("worst_groups",),
    "labels": ("images", "predictions"),
    "settings": ("run_settings",), "config": ("run_settings",), "counterfactuals": ("outcomes", "explanations"),
    "costs": ("stage_costs",), "checks": ("gate",), "rules": ("gate",),
}  # fmt: skip
_COLUMNS_MEANT = {
    "image": ("path", "image_id"), "file": ("path",), "filename": ("path",), "file_name": ("path",), "image_path": ("path",),
    "classifier": ("model",), "network": ("model",), "class": ("predicted", "target", "label"), "prediction": ("predicted",),
    "pred": ("predicted",), "predicted_class": ("predicted",), "acc": ("accuracy",), "truth": ("label",),
    "true_label": ("label",), "true_class": ("label",), "name": ("audit", "attribute"),
    "probability": ("confidence", "probabilities"),
    "score": ("confidence", "value"), "date": ("started",), "time": ("started",), "created": ("started",), "pvalue": ("p_value",),
    "group": ("attribute", "label"), "property": ("name",), "attribute": ("name",), "reason": ("why", "rests_on"),
    "why": ("reason", "rests_on"), "status": ("verdict", "result"), "effect": ("edit_effect", "shift"),
}  # fmt: skip
_NO_TABLE = re.compile(r"Table with name (\S+) does not exist")
_NO_COLUMN = re.compile(r'Referenced column "([^"]+)" not found|does not have a column named "([^"]+)"')
_AMBIGUOUS = re.compile(r'Ambiguous reference to column name "([^"]+)"')


class WrongQuery(UserError, duckdb.Error):
    """SQL that DuckDB refuses, in its words and with the names that may be meant."""


@dataclass(frozen=True)
class Answer:
    """The rows; notes on runs that are left out, and on old names in the query; the columns that came along by `*` under an old
    name, beside the new one."""

    rows: pa.Table
    notes: tuple[str, ...] = ()
    old: tuple[str, ...] = ()


def ask(
    root: Path, sql: str, values: Mapping[str, object] | None = None, seconds: float = 300, most: int | None = None
) -> Answer:
    """The answer to a person's query; arguments and errors as of `warehouse.lens.connect.query`, but WrongQuery for wrong SQL.

    A query that was written when views had fewer columns may find a name in two of them now; it is answered as it was then.
    """
    try:
        rows, missing = answered(root, sql, values, seconds, most, lens=True)
        return Answer(rows, (*missing, *_old_names(root, sql)), tuple(_along(sql, rows.column_names)))
    except (duckdb.BinderException, duckdb.CatalogException) as error:
        ambiguous = _AMBIGUOUS.search(str(error))
        if ambiguous is not None:
            try:
                note = f"{ambiguous[1]!r} is in more than one of these views now; say of which, as in images.{ambiguous[1]}"
                rows, missing = answered(root, sql, values, seconds, most, lens=False)
                return Answer(rows, (*missing, note))
            except duckdb.Error:
                pass  # it never was a query: the first error says why
        raise WrongQuery(_said(root, sql, str(error))) from error
    except duckdb.Error as error:
        raise WrongQuery(str(error)) from error


def _along(sql: str, found: list[str]) -> Iterator[str]:
    """The columns of an answer that nobody named, and that are old names of others in it."""
    tables, columns, aliases = _written(sql)
    if len(tables) == 1:
        old = OLD_COLUMNS.get(next(iter(tables)), {})
        yield from (name for name in found if name in old and name not in columns | aliases and old[name] in found)


def _old_names(root: Path, sql: str) -> Iterator[str]:
    """Notes on old names in a query; none where a name may be another's, as an alias or a column of another view."""
    tables, columns, aliases = _written(sql)
    for table in sorted(tables & OLD_VIEWS.keys()):
        yield f"view {table} is the old name of {OLD_VIEWS[table]}"
    for table in sorted(tables & OLD_COLUMNS.keys()):
        old = {name: new for name, new in OLD_COLUMNS[table].items() if name in columns - aliases}
        others = _columns(root, tables - {table}) if old and len(tables) > 1 else {}
        for name, new in old.items():
            if not any(name in there and name not in OLD_COLUMNS.get(other, {}) for other, there in others.items()):
                yield f"{table}.{name} is the old name of {table}.{new}"


def _written(sql: str) -> tuple[set[str], set[str], set[str]]:
    """The tables, columns and aliases that a query names, in small letters."""
    found: tuple[set[str], set[str], set[str]] = (set(), set(), set())

    def read(node: Json) -> None:
        if isinstance(node, list):
            for part in node:
                read(part)
        if isinstance(node, dict):
            match node:
                case {"type": "BASE_TABLE", "schema_name": "" | "lens", "table_name": str(table)}:
                    found[0].add(table.lower())
                case {"class": "COLUMN_REF", "column_names": [*_, str(column)]}:
                    found[1].add(column.lower())
            if isinstance(alias := node.get("alias"), str) and alias and "class" in node:
                found[2].add(alias.lower())
            for part in node.values():
                read(part)

    read(parsed(sql))
    return found


def _columns(root: Path, tables: Iterable[str]) -> dict[str, list[str]]:
    """The columns of those of these tables that there are."""
    known = [table for table in sorted(tables) if table in GROUP_OF]
    if not known:
        return {}
    with open_warehouse(root, sql="select 1 from " + ", ".join(map(identifier, known)), lens=True) as lens:
        return {table: [name for name, _ in columns_of(lens, f"from {identifier(table)}")] for table in known}


def _said(root: Path, sql: str, error: str) -> str:
    """DuckDB's error about a name, with the names that may be meant; any other as it is."""
    line = "".join(f"\n{line}" for line in error.partition("\n\n")[2].splitlines())
    if found := _NO_TABLE.search(error):
        return f"there is no view {found[1]!r}{near_views(found[1])}\n`cfx views` lists all{line}"
    if not (found := _NO_COLUMN.search(error)):
        return error
    name = found[1] or found[2]
    there = _columns(root, _written(sql)[0])
    if not there:
        return error
    known = [column for table, columns in there.items() for column in columns if column not in OLD_COLUMNS.get(table, {})]
    near = _near(name, known, _COLUMNS_MEANT)
    elsewhere = "" if near else _elsewhere(root, name, there)
    return (
        f"there is no column {name!r} in {' or '.join(there)}{_or(near)}{elsewhere}\n"
        f"columns: {', '.join(dict.fromkeys(known))}{line}"
    )


def near_views(name: str) -> str:
    """`; did you mean …?` with the views whose names are nearest, or nothing."""
    return _or(_near(name, GROUP_OF, _VIEWS_MEANT))


def _near(name: str, known: Iterable[str], meant: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Of these names those that are nearest, by what people mean or by their letters; at most three."""
    known = list(dict.fromkeys(known))
    small = name.lower()
    called = [small, *get_close_matches(small, meant, 1, 0.85)]
    named = [other for call in called for other in meant.get(call, ()) if other in known]
    inside = [other for other in known if len(small) > 3 and small in other.split("_")]
    return list(dict.fromkeys([*named, *get_close_matches(small, known, 3, _ALIKE), *inside]))[:3]


def _or(names: list[str]) -> str:
    return f"; did you mean {' or '.join(names)}?" if names else ""


def _elsewhere(root: Path, name: str, there: Mapping[str, object]) -> str:
    """Where else a column of that name is."""
    every = _columns(root, ["runs", "run_settings", *GROUPS[IMAGES]])  # not those that take long to lay out
    having = [view for view, columns in every.items() if name.lower() in columns and view not in there]
    return f"; {', '.join(having[:4])} {'have' if len(having) > 1 else 'has'} it" if having else ""
