"""`cfx report`: a run on one page."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from flows.run_names import RunName, run_named
from flows.terminal import DEFAULT_WAREHOUSE, AsJson, Warehouse, escaped, out, print_json, user_errors


def report(
    run: RunName,
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    pdf: Annotated[bool, typer.Option("--pdf", help="print it to a PDF too; needs Chromium or Chrome")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the HTML report of a run again and print its path."""
    with user_errors():
        from warehouse.report.pdf import write_pdf
        from warehouse.report.render import write_report

        began = time.monotonic()
        path = write_report(warehouse, run_named(warehouse, run))
        if pdf:
            path = write_pdf(path)
        seconds = time.monotonic() - began
    if as_json:
        print_json({"path": str(path), "bytes": path.stat().st_size, "seconds": round(seconds, 3)})
    else:
        out.print(escaped(path), soft_wrap=True)
