"""What commands print: bars and colours on a terminal, log lines elsewhere, and bad input without a trace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cfx.errors import UserCodeError, UserError
from cfx.user_code import importable_from


def _warehouse(path: str) -> Path:
    from warehouse.facts.storage import warehouse_at

    return warehouse_at(path)


Warehouse = Annotated[
    Path, typer.Option("--warehouse", "-w", parser=_warehouse, metavar="PATH", help="the warehouse's folder, or its URL")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="log lines instead of progress bars")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object as the last line")]
DEFAULT_WAREHOUSE = Path("cfx-demo/warehouse")

out, err = Console(), Console(stderr=True)


@contextmanager
def user_errors() -> Iterator[None]:
    """Bad input ends with its message and exit code 2, a disk or store that fails with 1; a defect keeps its trace.

    A defect of the user's own code ends with its frames, its message and exit code 2.
    """
    try:
        yield
    except (UserError, OSError) as error:
        if (theirs := user_code_error(error)) is not None:
            err.print(escaped(theirs.trace), style="dim", soft_wrap=True, end="")
        err.print(f"[bold red]error[/] {escaped(str(error))}", soft_wrap=True)
        raise typer.Exit(2 if isinstance(error, UserError | FileNotFoundError) else 1) from None


def user_code_error(error: BaseException | None) -> UserCodeError | None:
    """The failure of a user's own code that caused this error, if one did."""
    while error is not None and not isinstance(error, UserCodeError):
        error = error.__cause__
    return error


def escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def settle(quiet: bool) -> bool:
    """Set Prefect and torch up for one machine; returns whether bars are shown."""
    shown = not quiet and err.is_terminal
    for name, value in {
        "PREFECT_LOGGING_LEVEL": "ERROR" if shown else "INFO",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "cfx",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",  # a first start takes 20-30 s on a small machine
        "DO_NOT_TRACK": "1",
    }.items():
        os.environ.setdefault(name, value)
    importable_from(os.getcwd())  # a user's `module: my_package:my_network`
    return shown


def quieten() -> None:
    """The work is done: Prefect's farewell must not come after the result."""
    import logging

    logging.getLogger("prefect").setLevel(logging.WARNING)
