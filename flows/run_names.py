"""How a run is named on the command line, by its id, the beginning of one, or `latest`; and how a shell completes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.terminal import DEFAULT_WAREHOUSE, err, escaped

HELP = "run id, the beginning of one, latest, or latest:AUDIT (`cfx runs` lists them)"


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """The run ids that a shell offers: of the warehouse that stands before them on the line, else of the default one."""
    from cfx.errors import UserError
    from warehouse.facts.storage import warehouse_at
    from warehouse.lens.runs import LATEST, run_ids

    try:
        known = run_ids(warehouse_at(context.params.get("warehouse") or DEFAULT_WAREHOUSE))
    except (UserError, OSError):  # a shell shows no message
        return []
    return [name for name in (*known, *([LATEST] if known else [])) if name.startswith(incomplete)]


RunName = Annotated[str, typer.Argument(metavar="RUN", help=HELP, autocompletion=complete_run)]


def run_named(warehouse: Path, name: str) -> str:
    """The id of the run that is meant; on standard error, unless it is what was written. Raises UserError as `resolve` does."""
    from warehouse.lens.runs import resolve

    run = resolve(warehouse, name)
    if run != name:
        err.print(f"[dim]run {escaped(run)}[/]", soft_wrap=True, highlight=False)
    return run
