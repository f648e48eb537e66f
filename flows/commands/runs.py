"""`cfx runs`: which audits there are in a warehouse."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cfx.errors import UserError
from flows.terminal import DEFAULT_WAREHOUSE, AsJson, Warehouse, escaped, out, print_json, print_table, user_errors

if TYPE_CHECKING:
    from warehouse.lens.fetch import Row

COLOURS = {"finding": "red", "fail": "red", "failed": "red", "damaged": "red", "clear": "green", "pass": "green"}
NARROW = 100  # columns of a terminal: with fewer, an audit's name stands in its runs' ids alone


def runs(
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    last: Annotated[int, typer.Option(min=1, help="so many of the newest runs")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the runs of a warehouse, the newest first: what each found, and whether it passed its release check.

    Wherever a run is named, the beginning of its id will do, as it stands here; `latest` is the newest finished run, and
    `latest:AUDIT` that of one audit.
    """
    with user_errors():
        if not warehouse.is_dir():
            raise UserError(f"there is no warehouse at {warehouse}; give one with --warehouse, or make one with `cfx demo`")
        from warehouse.lens.runs import run_ids, short_ids
        from warehouse.report.listing import listing

        short = short_ids(run_ids(warehouse))
        found = [row | {"short": short[row["run_id"]]} for row in listing(warehouse, last)]
    if as_json:
        print_json(found)
        return
    if not found:
        out.print(f"no run began in {escaped(str(warehouse))} yet", soft_wrap=True)
        return
    wide = out.width >= NARROW or not out.is_terminal  # nothing is folded for a file
    print_table(runs_table(found, wide))
    for row in found:
        if row["status"] == "failed":
            out.print(f"{escaped(row['short'])} failed: {escaped(row['reason'])}", soft_wrap=True, highlight=False)
    if len(short) > len(found):
        out.print(f"{len(short) - len(found)} older ones: --last {len(short)}")


def runs_table(found: list[Row], wide: bool) -> Table:
    """A run a line; where it must be narrow, without what its id and its verdict tell."""
    columns = ("run", "audit", "started", "status", "verdict", "release check", "images")
    shown = [column for column in columns if wide or column not in ("audit", "status")]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in shown:
        table.add_column(heading, no_wrap=heading != "run", overflow="fold", justify="right" if heading == "images" else "left")
    for row in found:
        said = row["verdict"] if row["verdict"] is not None or wide else row["status"]
        said = row["reason"] if row["status"] == "damaged" and wide else said
        images = "" if row["images"] is None else f"{row['images']:,}"
        known = (escaped(row["short"]), escaped(row["audit"]), _moment(row["started"]))
        cells = (*known, *(_coloured(word) for word in (row["status"], said, row["gate"])), images)
        table.add_row(*(cell for column, cell in zip(columns, cells, strict=True) if column in shown))
    return table


def _moment(when: datetime | None) -> str:
    """In this machine's time; nothing where it is not known."""
    return "" if when is None else f"{when.astimezone():%Y-%m-%d %H:%M}"


def _coloured(word: str | None) -> str:
    if word is None:
        return ""
    shown = escaped({"started": "unfinished"}.get(word, word))
    return f"[{COLOURS[word]}]{shown}[/]" if word in COLOURS else shown
