"""`cfx query` and `cfx views`: SQL over a warehouse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cfx.errors import UserError
from flows.terminal import DEFAULT_WAREHOUSE, Warehouse, check_out, err, escaped, out, user_errors

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
        import duckdb

        from warehouse.lens.connect import query as answered

        text = Path(sql).read_text(encoding="utf-8") if sql.endswith(".sql") else sql
        try:
            answer = answered(warehouse, text, seconds=timeout)
        except duckdb.Error as error:  # wrong SQL, in DuckDB's words
            raise UserError(str(error)) from error
    if form == "table" and to is None and out.is_terminal:
        out.print(answer_table(answer))
    elif to is not None:
        to.write_bytes(encoded(answer, form))
    else:
        sys.stdout.buffer.write(encoded(answer, form))


def views(
    name: Annotated[str | None, typer.Argument(help="one fact or view: its columns in words, and its SQL")] = None,
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
) -> None:
    """Every fact and view with its columns; also docs/reference/warehouse.md."""
    with user_errors():
        from warehouse.lens.connect import views as listed
        from warehouse.lens.reference import meaning_of

        known = listed(warehouse)
        shown = [view for view in known if name in (None, view.name)]
        if not shown:
            raise UserError(f"there is no fact or view {name!r}; there are {', '.join(view.name for view in known)}")
        for view in shown:
            out.print(f"[bold]{view.name}[/]  {escaped(view.description)}")
            if name is None:
                out.print("  " + ", ".join(f"{escaped(column)} [dim]{kind}[/]" for column, kind in view.columns))
                continue
            table = Table("column", "type", "meaning")
            for column, kind in view.columns:
                table.add_row(escaped(column), kind.lower(), escaped(meaning_of(view.name, column)))
            out.print(table)
            if view.sql:
                out.print(escaped(view.sql), soft_wrap=True)


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
        from rich.console import Console

        console = Console(width=10_000, color_system=None)  # nothing is cut off in a file
        with console.capture() as printed:
            console.print(answer_table(answer))
        return printed.get().encode()
    return bytes(sink.getvalue().to_pybytes())


def answer_table(answer: pa.Table) -> Table:
    """An answer for people: six digits, and no image's bytes."""
    table = Table(*map(escaped, answer.column_names))
    for row in answer.to_pylist():
        table.add_row(*(escaped(cell(value)) for value in row.values()))
    return table


def cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return "" if value is None else str(value)


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
