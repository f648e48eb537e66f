"""The list of facts and views, on one screen."""

from __future__ import annotations

import textwrap

from warehouse.lens.groups import GROUPS
from warehouse.lens.names import OLD_COLUMNS


def listed(every: bool, width: int) -> str:
    """The groups in their order: a line a view where one would begin, else names alone. every: a line each, old names too."""
    room = max(len(name) for name, _ in _shown(every)) + 2
    lines = []
    for group, names in GROUPS.items():
        if group == "old names" and not every:
            continue
        if every or any(names.values()):
            lines += [group, *(_cut(f"  {name.ljust(room)}{words or first_words(name)}", width) for name, words in names.items())]
        else:
            lines += textwrap.wrap(f"{group}: {', '.join(names)}", width, subsequent_indent="  ", break_on_hyphens=False)
    if every:
        lines += ["old columns"]
        for view, columns in OLD_COLUMNS.items():
            said = f"  {view}: " + ", ".join(f"{old} is old name of {new}" for old, new in columns.items())
            lines += textwrap.wrap(said, width, subsequent_indent="    ")
    lines += [f"cfx docs VIEW: its columns and a first query{'' if every else '; --all: a line each, and old names'}"]
    return "\n".join(lines) + "\n"


def _shown(every: bool) -> list[tuple[str, str]]:
    return [(name, words) for names in GROUPS.values() for name, words in names.items() if every or words]


def first_words(name: str) -> str:
    """The first sentence of a view's description."""
    from warehouse.lens.connect import description  # and with it DuckDB, which the short list does without

    return description(name).split(". ")[0].rstrip(".")


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
