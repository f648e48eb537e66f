"""`cfx query`, `cfx views` and `cfx docs`: SQL over a warehouse, and what there is to ask."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from cfx.errors import UserError
from flows.terminal import DEFAULT_WAREHOUSE, Warehouse, check_out, err, escaped, out, print_json, printable, user_errors

FORMS = ("table", "csv", "json", "parquet")


def query(
    sql: Annotated[str, typer.Argument(help="one SELECT, or the name of an .sql file that holds one")],
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    form: Annotated[
        str | None, typer.Option("--format", "-f", help="table, csv, json or parquet; default: as --out ends, else table")
    ] = None,
    to: Annotated[Path | None, typer.Option("--out", "-o", help="write the answer to this file")] = None,
    rows: Annotated[int | None, typer.Option(min=0, help="most rows that a terminal is shown; 0: all")] = None,
    timeout: Annotated[float, typer.Option(min=0.01, help="seconds after which a query is stopped")] = 300,
    memory: Annotated[float, typer.Option(min=0.25, help="GiB that a query may take, and half as many its answer")] = 1,
    seconds: Annotated[float | None, typer.Option(min=0.01, hidden=True)] = None,
) -> None:
    """Query the warehouse in SQL, read-only; safe while an audit is writing."""
    if seconds is not None:
        err.print("[yellow]warning[/] --seconds is the old name of --timeout, and goes with 0.3")
        timeout = seconds
    with user_errors():
        form = form_of(form, to)
        if not warehouse.is_dir():
            raise UserError(f"there is no warehouse at {warehouse}; give one with --warehouse, or make one with `cfx demo`")
        if form == "parquet" and to is None and sys.stdout.isatty():
            raise UserError("--format: refusing to write binary to a terminal; use --out FILE")
        from warehouse.lens.query_limits import GIB, Limits
        from warehouse.lens.query_process import write_answer

        text = Path(sql).read_text(encoding="utf-8") if sql.endswith(".sql") else sql
        limits = Limits(timeout, int(memory * GIB), int(memory * GIB / 2))
        if form == "table" and to is None and out.is_terminal:
            form = "terminal"
        file, notes = write_answer(warehouse, text, limits, form, out.width, rows)
    for note in notes:
        err.print(f"[yellow]note[/] {escaped(note)}", soft_wrap=True)
    with file:
        if to is not None:
            with user_errors(), to.open("wb") as written:
                shutil.copyfileobj(file, written)
        elif sys.stdout.isatty():
            sys.stdout.write(printable(file.read().decode()))
        else:
            shutil.copyfileobj(file, sys.stdout.buffer)


def views(
    name: Annotated[str | None, typer.Argument(help="one fact or view: see `cfx docs`")] = None,
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    every: Annotated[bool, typer.Option("--all", help="also internals and old names, one line each")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="every fact and view with columns, types, meanings and SQL")] = False,
) -> None:
    """What can be asked, the most useful first; `cfx docs VIEW` describes one."""
    with user_errors():
        if as_json:
            from flows.view_page import all_as_json

            print_json(all_as_json(warehouse, name))
        elif name is not None:
            from flows.view_page import described

            out.print(escaped(described(warehouse, name, out.width, sql=True)), end="", soft_wrap=True, highlight=False)
        else:
            from flows.catalog import listed

            out.print(escaped(listed(every, out.width)), end="", soft_wrap=True, highlight=False)


def docs(
    name: Annotated[str, typer.Argument(metavar="VIEW", help="a fact or view, as `cfx views` lists them")],
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    sql: Annotated[bool, typer.Option("--sql", help="also the SQL that makes it")] = False,
) -> None:
    """One fact or view: its columns with type and meaning, a first query with its rows, and what it is made of."""
    with user_errors():
        from flows.view_page import described

        out.print(escaped(described(warehouse, name, out.width, sql)), end="", soft_wrap=True, highlight=False)


def form_of(form: str | None, to: Path | None) -> str:
    """The form of an answer. Raises UserError for one that there is not, for a file's ending that is another's, and for a file
    that cannot be written."""
    ending = to.suffix.lower().removeprefix(".") if to is not None else ""
    found = form or (ending if ending in FORMS else "table")
    if found not in FORMS:
        raise UserError(f"--format: {found!r} is not one of {', '.join(FORMS)}")
    if to is not None:
        check_out(to)
    if ending in FORMS and ending != found:
        raise UserError(f"--out: {to} ends like {ending}, but --format is {found}; give one of the two another form")
    return found
