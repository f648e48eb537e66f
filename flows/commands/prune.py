"""`cfx prune`: old runs leave the warehouse."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.terminal import DEFAULT_WAREHOUSE, Warehouse, escaped, out, user_errors


def prune(
    days: Annotated[float, typer.Option(min=0, help="delete runs that began more than so many days ago")],
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    keep: Annotated[int, typer.Option(min=0, help="of each audit's name, always keep so many of the newest finished runs")] = 1,
    yes: Annotated[bool, typer.Option("--yes", help="delete; without it the runs are only listed")] = False,
) -> None:
    """Delete old runs: their facts, images and reports. Nothing else refers to them, but a gate that compares with one."""
    with user_errors():
        from warehouse.lens.prune import expired, forget

        for run in expired(warehouse, days, keep):
            done = f"{forget(warehouse, run)} files deleted" if yes else "would be deleted; add --yes"
            out.print(f"{escaped(run)}: {done}", soft_wrap=True)
