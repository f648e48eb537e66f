"""The reference of facts and views, made from the code:  python -m warehouse.lens.reference > docs/reference/warehouse.md"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from warehouse.facts.fact import Fact
from warehouse.facts.schema import FACTS
from warehouse.lens.catalog import COLUMNS, LENS, VIEWS, header, macros
from warehouse.lens.connect import View, views
from warehouse.lens.groups import GROUPS, example
from warehouse.lens.names import NAMED, OLD_COLUMNS, WRITTEN, made_of, renamed

KEYS = {  # of every view
    "run_id": "the audit",
    "audit": "the audit's name in its configuration",
    "attribute": "the oracle's name of it",
    "value": "in the metric's own unit",
    "n": "what the value is over",
}
_FIXED = {name for columns in OLD_COLUMNS.values() for pair in columns.items() for name in pair}  # `p_value` is of no attribute
_OPENING = """# Facts and views

Made by `python -m warehouse.lens.reference` from the schema and from the comments of `warehouse/views/*.sql`; a test holds it to
them. Ask with `cfx query "select ..."`, in a notebook with `cfx.open(...)` (`examples/ask.ipynb`), or see
[twelve worked questions](../how-to/questions/README.md). A fact is what an audit wrote down, once. A view is a question over the
facts that is answered anew each time. `<attribute>` stands for each attribute that the run's oracle knows. What the words mean
is in [names](names.md).
"""


def meaning_of(name: str, column: str) -> str:
    """What a column of a fact or view means. Raises LookupError for one that neither its header nor a fact explains."""
    shown = made_of(name)
    if name in NAMED and column in OLD_COLUMNS.get(name, {}):
        return f"old name of {OLD_COLUMNS[name][column]}"
    of_names = header(f"{LENS}{name}").columns if name in WRITTEN else {}
    own = {} if shown in FACTS and shown != "runs" else header(shown).columns if shown in VIEWS else {}
    before = renamed(name).get(column, column)
    meaning = of_names.get(column) or of_names.get(_wide_of(of_names, column)) or own.get(before) or own.get(wide(before))
    meaning = meaning or _of_fact(FACTS.get(shown), before) or KEYS.get(column)
    meaning = meaning or next(filter(None, (_of_fact(fact, before) for fact in FACTS.values())), None)
    if meaning is None:
        raise LookupError(f"views/{name}.sql does not say what {column!r} is; add it under `{COLUMNS}`")
    return meaning


def _wide_of(named: Iterable[str], column: str) -> str:
    """The family of these columns, `change_<attribute>`, that a column belongs to; else the column itself."""
    families = (family for family in named if family.endswith("<attribute>"))
    return next((family for family in families if column.startswith(family.removesuffix("<attribute>"))), column)


def wide(column: str) -> str:
    """`d_hat` is one of the columns `d_<attribute>`; `p_source`, which a fact names, is itself."""
    if any(column in fact.schema.names for fact in FACTS.values()) or column in _FIXED:
        return column
    return re.sub(r"^([acdmpqsv])_.+", r"\1_<attribute>", column)


def _of_fact(fact: Fact | None, column: str) -> str | None:
    if fact is None:
        return None
    if column in fact.schema.names:
        return str(fact.schema.field(column).metadata[b"description"].decode())
    if fact.name == "attributes" and column.startswith("c_"):
        return "change of the oracle's bit: -1, 0 or 1; above .5 is 1"
    family = fact.family(column)
    return family.description if family else None


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def column_names(view: View) -> list[tuple[str, str]]:
    """Its columns as (name, type), each family of attributes once: `change_<attribute>`."""
    families = header(f"{LENS}{view.name}").columns if view.name in WRITTEN else {}
    named = {_wide_of(families, name) if name not in families else name: kind for name, kind in view.columns}
    return list({wide(name): kind for name, kind in named.items()}.items())


def reference() -> str:
    """Every fact and view as Markdown, in groups, with its columns, their types and meanings."""
    parts, group = [_OPENING], ""
    for view in views(Path("/nowhere")):  # of no warehouse: only what is the same in all
        if view.group != group:
            group = view.group
            parts.append(f"## {group.capitalize()}\n")
        if view.old_name_of:
            parts.append(f"### {view.name}\n\nOld name of [{view.old_name_of}](#{view.old_name_of}), valid for one version.\n")
            continue
        words = GROUPS[group][view.name]
        parts.append(f"### {view.name}\n\n{view.description}\n\n| column | type | meaning |\n|---|---|---|")
        rows = [
            f"| `{name}` | {kind.lower()} | {_cell(meaning_of(view.name, name))} |"
            for name, kind in column_names(view)
            if name not in view.old_columns
        ]
        parts.append("\n".join(rows) + "\n")
        if view.old_columns:
            old = ", ".join(f"`{column}` ({new})" for column, new in view.old_columns.items())
            parts.append(f"Old names, valid for one version: {old}.\n")
        if words:
            parts.append(f'    cfx query "{example(view.name)}"\n')
        if view.name in VIEWS:
            parts += [f"Macro `{call}`: {meaning}\n" for call, meaning in macros(view.name).items()]
    return "\n".join(parts)


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201
