"""What commands print: bars and colours on a terminal, log lines elsewhere, and bad input without a trace."""

from __future__ import annotations

import logging
import os
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from cfx.errors import UserCodeError, UserError
from cfx.masking import mask_logs, masked
from cfx.user_code import importable_from
from flows.interrupt import end_when_interrupted
from warehouse.lens.printable import printable


def _warehouse(path: str) -> Path:
    from warehouse.facts.storage import warehouse_at

    return warehouse_at(path)


Warehouse = Annotated[
    Path, typer.Option("--warehouse", "-w", parser=_warehouse, metavar="PATH", help="the warehouse's folder, or its URL")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="say nothing but the result")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object as the last line")]
DEFAULT_WAREHOUSE = Path("cfx-demo/warehouse")

UNFOLDED = 10_000  # columns of what is no terminal


class Printing(Console):
    """A console that is commanded by no text: control characters are written out, of whatever is printed, in tables, too."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


out, err = Printing(emoji=False), Printing(stderr=True, emoji=False)  # `:car:` is a name, too


@contextmanager
def user_errors() -> Iterator[None]:
    """Bad input ends with its message and exit code 2, a disk or store that fails with 1, and so does a defect: its kind, its
    message, and the file where its trace is.

    A defect of the user's own code ends with its frames, its message and exit code 2.
    """
    try:
        yield
    except (UserError, OSError) as error:
        if (theirs := user_code_error(error)) is not None:
            err.print(escaped(masked(theirs.trace)), style="dim", soft_wrap=True, end="")
        err.print(f"[bold red]error[/] {escaped(masked(str(error)))}", soft_wrap=True)
        raise typer.Exit(2 if isinstance(error, UserError | FileNotFoundError) else 1) from None
    except (typer.Exit, typer.Abort):  # the command line's own ways to end
        raise
    except Exception as error:
        said = f"{reason_of(error)}. This is a defect, and not your input's fault: its trace is in {_kept_trace(error)}"
        err.print(f"[bold red]error[/] {escaped(said)}", soft_wrap=True)
        raise typer.Exit(1) from None


def reason_of(error: BaseException) -> str:
    """What went wrong, in one line: a UserError's own words, otherwise with the kind of error before them."""
    line = (masked(str(error)).strip().splitlines() or [""])[0]
    return line if isinstance(error, UserError) else f"{type(error).__name__}: {line}".removesuffix(": ")


def _kept_trace(error: Exception) -> str:
    """The file that the error's trace is written into."""
    with tempfile.NamedTemporaryFile("w", prefix="cfx-error-", suffix=".txt", delete=False) as file:
        file.write(masked("".join(traceback.format_exception(error))))
    return file.name


def user_code_error(error: BaseException | None) -> UserCodeError | None:
    """The failure of a user's own code that caused this error, if one did."""
    while error is not None and not isinstance(error, UserCodeError):
        error = error.__cause__
    return error


def check_out(path: Path) -> None:
    """Raises UserError, before any work, for a file that cannot be written."""
    if path.is_dir():
        raise UserError(f"--out: {path} is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--out: there is no folder {path.absolute().parent}; make it first")


def check_image(path: Path) -> None:
    """Raises UserError, before any work, for a file that is not there."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; name an image in it")
    if not path.is_file():
        raise UserError(f"{path}: there is no such image")


def print_table(table: RenderableType) -> None:
    """On a terminal as wide as it is; in a pipe or a file on as many columns as it takes, where nothing need be folded."""
    if out.is_terminal:
        out.print(table)
    else:
        Printing(width=UNFOLDED, color_system=None, file=out.file, emoji=False).print(table)


def print_json(value: object) -> None:
    """One line of JSON, for machines."""
    from warehouse.lens.plain_json import as_json

    print(as_json(value))  # noqa: T201


def escaped(text: object) -> str:
    """Text as it is, for a print with markup: brackets stay brackets, and nothing in it commands the terminal."""
    from rich.markup import escape

    return escape(printable(str(text)))


def settle(quiet: bool) -> None:
    """Set Prefect up for one machine, and Ctrl-C to end the command. What Prefect logs of warnings and errors is shown in a pipe,
    where no bar stands in the way.
    """
    for name, value in {
        "PREFECT_LOGGING_LEVEL": "ERROR" if quiet or err.is_terminal else "WARNING",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "cfx",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",  # what it says when it is stopped after a failure hides the failure
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # what the automations in zombies.yaml listen for, on a server that is named
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",  # a first start takes 20-30 s on a small machine
        "DO_NOT_TRACK": "1",
    }.items():
        os.environ.setdefault(name, value)
    for name in ("prefect.flow_runs", "prefect.task_runs", "cfx.stages"):
        logging.getLogger(name).addFilter(in_one_line)
    mask_logs()
    end_when_interrupted()
    importable_from(os.getcwd())  # a user's `module: my_package:my_network`


def in_one_line(record: logging.LogRecord) -> bool:
    """A filter of Prefect's log: an error is one line, and a stage that did not begin because one before it failed is none.

    Nothing in a line commands the terminal: it may name files and attributes of others."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        record.msg, record.args, record.exc_info, record.exc_text = "%s", (reason_of(error),), None, None
    said = printable(record.getMessage())
    record.msg, record.args = "%s", (said,)
    return "NotReady(" not in said


def quieten() -> None:
    """The work is done: Prefect's farewell must not come after the result."""
    logging.getLogger("prefect").setLevel(logging.WARNING)
