"""`cfx scrub`: every byte of the facts is read, and what is damaged is named."""

from __future__ import annotations

from typing import Annotated

import typer

from cfx.errors import UserError
from flows.run_names import HELP, complete_run, run_named
from flows.terminal import DEFAULT_WAREHOUSE, AsJson, Warehouse, err, escaped, out, print_json, user_errors

SOUND, DAMAGED = 0, 1


def scrub(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help=f"{HELP}; default: every run", autocompletion=complete_run)
    ] = None,
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    as_json: AsJson = False,
) -> None:
    """Read every file of the facts whole, and name those that are damaged, not sealed or missing, each with the way out.

    Exit code 0: every file is as it was written; 1: some are not (2: bad input).
    """
    with user_errors():
        if not warehouse.is_dir():
            raise UserError(f"there is no warehouse at {warehouse}; give one with --warehouse, or make one with `cfx demo`")
        from warehouse.evidence.scrub import scrub as scrubbed

        found = scrubbed(warehouse, None if run is None else run_named(warehouse, run))
    if as_json:
        damaged = [
            {"run_id": one.run_id, "fact": one.fact, "file": one.file, "wrong": one.wrong, "way_out": one.way_out}
            for one in found.damage
        ]
        print_json({"files": found.files, "bytes": found.bytes, "damaged": damaged})
    else:
        for one in found.damage:
            err.print(f"[bold red]{escaped(one.wrong)}[/] {escaped(one.file)}: {escaped(one.way_out)}", soft_wrap=True)
        said = f"{found.files:,} files, {found.bytes / 1e6:,.1f} MB read: {len(found.damage) or 'none'} damaged or missing"
        out.print(said, soft_wrap=True)
    raise typer.Exit(DAMAGED if found.damage else SOUND)
