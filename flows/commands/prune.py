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
    """Delete old runs: their facts, images and reports, and edits that no other run uses. What a policy compares with stays.

    Temporary files that dead processes left go, too; those of living ones stay.
    """
    with user_errors():
        from warehouse.facts.damage import DamagedRun
        from warehouse.facts.storage import remove_orphans
        from warehouse.lens.prune import compared_with, expired, forget
        from warehouse.report.render import write_report

        old = expired(warehouse, days, keep)
        if not yes:
            for run in old:
                out.print(f"{escaped(run)}: would be deleted; add --yes", soft_wrap=True)
            return
        left = {other for run in old for other in compared_with(warehouse, run)} - set(old)
        for run in old:
            out.print(f"{escaped(run)}: {forget(warehouse, run)} files deleted", soft_wrap=True)
        for run in sorted(left):
            try:
                again = f"{run}: report written again, which compared it with one of these: {write_report(warehouse, run)}"
            except DamagedRun as error:
                again = f"{run}: its report compared it with one of these and cannot be written again: {error}"
            out.print(escaped(again), soft_wrap=True)
        if gone := remove_orphans(warehouse):
            out.print(f"temporary files of dead processes: {len(gone)} deleted", soft_wrap=True)
