"""The reference of facts and views, made from the code:  python -m warehouse.lens.reference > docs/reference/warehouse.md"""

from __future__ import annotations

import re
from pathlib import Path

from warehouse.facts.fact import Fact
from warehouse.facts.schema import FACTS
from warehouse.lens.catalog import COLUMNS, VIEWS, header, macros
from warehouse.lens.connect import views

KEYS = {  # of every view
    "run_id": "the audit",
    "attribute": "the oracle's name of it",
    "value": "in the metric's own unit",
    "n": "what the value is over",
}
_OPENING = """# Facts and views

Made by `python -m warehouse.lens.reference` from the schema and from the comments of `warehouse/views/*.sql`; a test holds it to
them. Ask with `cfx query "select ..."`, in a notebook with `cfx.open(...)` (`examples/ask.ipynb`), or see
[twelve worked questions](../how-to/questions/README.md). A fact is what an audit wrote down, once. A view is a question over the
facts that is answered anew each time. `<attribute>` stands for each attribute that the run's oracle knows.
"""


def meaning_of(name: str, column: str) -> str:
    """What a column of a fact or view means. Raises LookupError for one that neither its header nor a fact explains."""
    own = {} if name in FACTS and name != "runs" else header(name).columns
    meaning = own.get(column) or own.get(wide(column)) or _of_fact(FACTS.get(name), column)
    meaning = meaning or KEYS.get(column) or next(filter(None, (_of_fact(fact, column) for fact in FACTS.values())), None)
    if meaning is None:
        raise LookupError(f"views/{name}.sql does not say what {column!r} is; add it under `{COLUMNS}`")
    return meaning


def wide(column: str) -> str:
    """`d_hat` is one of the columns `d_<attribute>`; `p_source`, which a fact names, is itself."""
    if any(column in fact.schema.names for fact in FACTS.values()):
        return column
    return re.sub(r"^([a-z])_.+", r"\1_<attribute>", column)


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


def reference() -> str:
    """Every fact and view as Markdown, with its columns, their types and meanings."""
    parts = [_OPENING]
    for view in views(Path("/nowhere")):  # of no warehouse: only what is the same in all
        if view.name == "images":
            parts.append("## Facts\n")
        elif view.name == VIEWS[0]:
            parts.append("## Views\n")
        parts.append(f"### {view.name}\n\n{view.description}\n\n| column | type | meaning |\n|---|---|---|")
        rows = [f"| `{wide(name)}` | {kind.lower()} | {_cell(meaning_of(view.name, name))} |" for name, kind in view.columns]
        parts.append("\n".join(rows) + "\n")
        if view.name in VIEWS:
            parts += [f"Macro `{call}`: {meaning}\n" for call, meaning in macros(view.name).items()]
    return "\n".join(parts)


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201
