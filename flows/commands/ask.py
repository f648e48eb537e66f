"""`cfx query`, `cfx views` and `cfx report`: what a warehouse has to say."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.table import Table

from flows.terminal import DEFAULT_WAREHOUSE, Warehouse, escaped, out, told


def query(
    sql: Annotated[str, typer.Argument(help="one SELECT")],
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    form: Annotated[str, typer.Option("--format", "-f", help="table, csv or json")] = "table",
) -> None:
    """Ask the warehouse in SQL, read-only; safe while an audit is writing."""
    with told():
        if form not in ("table", "csv", "json"):
            raise ValueError(f"--format: {form!r} is not one of table, csv, json")
        if not warehouse.is_dir():
            raise ValueError(f"there is no warehouse at {warehouse}; give one with --warehouse, or make one with `cfx demo`")
        from tasks.ask import query as ask

        answer = ask(warehouse, sql)
    if form == "json":
        print(json.dumps(answer.to_pylist(), default=str))  # noqa: T201
    elif form == "csv":
        import pyarrow.csv

        pyarrow.csv.write_csv(answer, sys.stdout.buffer)
    else:
        table = Table(*map(escaped, answer.column_names))
        for row in answer.to_pylist():
            table.add_row(*(escaped(cell(value)) for value in row.values()))
        out.print(table)


def views(warehouse: Warehouse = DEFAULT_WAREHOUSE) -> None:
    """What can be asked: every fact and view with its columns."""
    with told():
        from tasks.ask import views as listed

        for view in listed(warehouse):
            out.print(f"[bold]{view.name}[/]  {escaped(view.description)}")
            out.print("  " + ", ".join(f"{escaped(name)} [dim]{kind}[/]" for name, kind in view.columns))


def report(run: Annotated[str, typer.Argument(help="run id")], warehouse: Warehouse = DEFAULT_WAREHOUSE) -> None:
    """Write the HTML report of a run again and print its path."""
    with told():
        from tasks.ask import write_report

        out.print(str(write_report(warehouse, run)), soft_wrap=True)


def cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return "" if value is None else str(value)
