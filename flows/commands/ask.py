"""`cfx query`, `cfx views` and `cfx docs`: SQL over a warehouse, and what there is to ask."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfx.errors import UserError
from flows.terminal import DEFAULT_WAREHOUSE, Warehouse, check_out, err, escaped, out, print_json, user_errors

if TYPE_CHECKING:
    import pyarrow as pa

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
        from warehouse.lens.ask import ask

        text = Path(sql).read_text(encoding="utf-8") if sql.endswith(".sql") else sql
        answer = ask(warehouse, text, seconds=timeout)
    for note in answer.notes:
        err.print(f"[yellow]note[/] {escaped(note)}", soft_wrap=True)
    found = answer.rows.drop_columns(list(answer.old)) if form == "table" else answer.rows
    if form == "table" and to is None and out.is_terminal:
        from flows.answers import printed

        out.print(escaped(printed(found, out.width, rows)), end="", soft_wrap=True, highlight=False)
    elif to is not None:
        to.write_bytes(encoded(found, form))
    else:
        sys.stdout.buffer.write(encoded(found, form))


def views(
    name: Annotated[str | None, typer.Argument(help="one fact or view: see `cfx docs`")] = None,
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    every: Annotated[bool, typer.Option("--all", help="also internals and old names, one line each")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="every fact and view with columns, types, meanings and SQL")] = False,
) -> None:
    """What can be asked, the most useful first; `cfx docs VIEW` describes one."""
    from flows.catalog import all_as_json, described, listed

    with user_errors():
        if as_json:
            print_json(all_as_json(warehouse, name))
        elif name is not None:
            out.print(escaped(described(warehouse, name, out.width, sql=True)), end="", soft_wrap=True, highlight=False)
        else:
            out.print(escaped(listed(every, out.width)), end="", soft_wrap=True, highlight=False)


def docs(
    name: Annotated[str, typer.Argument(metavar="VIEW", help="a fact or view, as `cfx views` lists them")],
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    sql: Annotated[bool, typer.Option("--sql", help="also the SQL that makes it")] = False,
) -> None:
    """One fact or view: its columns with type and meaning, a first query with its rows, and what it is made of."""
    from flows.catalog import described

    with user_errors():
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


def encoded(answer: pa.Table, form: str) -> bytes:
    """An answer as the bytes of a file; in text, images and other bytes are base64."""
    import pyarrow as pa

    from warehouse.lens.plain_json import as_json

    if form == "json":
        return as_json(answer.to_pylist()).encode() + b"\n"
    sink = pa.BufferOutputStream()
    if form == "parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(answer, sink)
    elif form == "csv":
        import pyarrow.csv

        pyarrow.csv.write_csv(_flat(answer), sink)
    else:
        from flows.answers import plain

        return plain(answer).encode()
    return bytes(sink.getvalue().to_pybytes())


def _flat(answer: pa.Table) -> pa.Table:
    """CSV has no lists, structs or bytes: these as JSON or base64."""
    import base64

    import pyarrow as pa

    from warehouse.lens.plain_json import as_json

    def text(value: object) -> str | None:
        if isinstance(value, bytes):
            return base64.b64encode(value).decode("ascii")
        return None if value is None else as_json(value)

    columns = {
        name: pa.array([text(value) for value in column.to_pylist()], pa.string())
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type)
        else column
        for name, column in zip(answer.column_names, answer.columns, strict=True)
    }
    return pa.table(columns)
