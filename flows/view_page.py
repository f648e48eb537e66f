"""One fact or view, printed: its columns in words, and a first query with its rows."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from cfx.errors import UserError
from warehouse.facts.schema import FACTS
from warehouse.lens.answer_table import printed
from warehouse.lens.ask import ask, near_views
from warehouse.lens.catalog import LENS, NAMES, VIEWS, view_sql
from warehouse.lens.connect import View, views
from warehouse.lens.groups import GROUP_OF, example
from warehouse.lens.names import made_of
from warehouse.lens.reference import column_names, meaning_of

_FIRST = 3  # rows of the first query
_READ = re.compile(r"\b(?:from|join)\s+(?:main\.|facts\.)?(\w+)")


def described(root: Path, name: str, width: int, sql: bool = False) -> str:
    """One fact or view in words: columns, a first query with its rows, and what it is made of.

    Raises UserError for a name that is none, with those that may be meant.
    """
    view = _view(root, name)
    old = view.old_columns
    rows = [(column, _kind(kind), meaning_of(name, column)) for column, kind in column_names(view) if column not in old]
    lines = [
        name + (f" (old name of {view.old_name_of})" if view.old_name_of else ""),
        *textwrap.wrap(view.description, width),
        "",
    ]
    wide, typed = (max(len(row[i]) for row in rows) + 2 for i in (0, 1))
    for column, kind, meaning in rows:
        said = textwrap.wrap(meaning, max(width - wide - typed - 2, 30)) or [""]
        lines.append(f"  {column.ljust(wide)}{kind.ljust(typed)}{said[0]}")
        lines += [" " * (2 + wide + typed) + more for more in said[1:]]
    if old:
        names = ", ".join(f"{column} ({new})" for column, new in old.items())
        lines += ["", *textwrap.wrap(f"old names, valid for one version: {names}", width, subsequent_indent="  ")]
    first = example(name)
    lines += ["", *textwrap.wrap(f'cfx query "{first}"', width, subsequent_indent="    ", break_on_hyphens=False), ""]
    if root.is_dir():
        answer = ask(root, first, most=_FIRST)
        lines += printed(answer.rows.drop_columns(list(answer.old)), width).splitlines()
    else:
        lines.append(f"(no warehouse at {root}; --warehouse names another)")
    made = sources(name)
    if made:
        lines += ["", *textwrap.wrap(f"made of: {', '.join(made)}", width, subsequent_indent="  ")]
    if view.sql and sql:
        lines += ["", *map(str.rstrip, _statements(name))]
    elif view.sql:
        lines.append(f"its SQL: cfx docs {name} --sql")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _statements(name: str) -> list[str]:
    """The SQL that makes a view, and where it only renames another's columns, that one's, too."""
    keys = [key for key in (f"{LENS}{name}", made_of(name)) if key in (*NAMES, *VIEWS)]
    return [view_sql(key) for key in keys]


def sources(name: str) -> list[str]:
    """The facts and views that a view reads itself."""
    read = (found for sql in _statements(name) for found in _READ.findall(sql))
    known = (source for source in dict.fromkeys(read) if source in GROUP_OF and (source != name or name in FACTS))
    return [f"facts.{name}" if source == name else source for source in known]


def _kind(kind: str) -> str:
    """A type in few letters."""
    kind = kind.lower().replace("timestamp with time zone", "timestamptz")
    return kind if len(kind) < 16 else "struct" + "[]" * kind.endswith("[]")


def _view(root: Path, name: str) -> View:
    if name not in GROUP_OF:
        raise UserError(f"there is no fact or view {name!r}{near_views(name)}\n`cfx views` lists all")
    return next(view for view in views(root, name) if view.name == name)


def all_as_json(root: Path, name: str | None) -> list[dict[str, Any]]:
    """Every fact and view, or one of them, for machines."""
    if name is not None:
        _view(root, name)
    return [
        {
            "name": view.name,
            "kind": "view" if view.name in VIEWS or f"{LENS}{view.name}" in NAMES else "fact",
            "group": view.group,
            "description": view.description,
            "old_name_of": view.old_name_of,
            "columns": [
                {
                    "name": column,
                    "type": kind.lower(),
                    "meaning": meaning_of(view.name, column),
                    "old_name_of": view.old_columns.get(column),
                }
                for column, kind in view.columns
            ],
            "example": example(view.name),
            "sql": view.sql,
        }
        for view in views(root, name)
    ]
