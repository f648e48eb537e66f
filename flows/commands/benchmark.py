"""`cfx benchmark`: the audit graded where the truth is known."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cfx.errors import UserError
from flows.options import taking
from flows.terminal import AsJson, Quiet, escaped, out, print_json, quieten, settle, user_errors


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of the command."""

    folder: Annotated[Path, typer.Option(help="where portraits, classifiers and facts go")] = Path("cfx-benchmark")
    quick: Annotated[bool, typer.Option("--quick", help="two cells; also what happens without --full or --harder")] = False
    full: Annotated[bool, typer.Option("--full", help="the whole grid: hours on a CPU")] = False
    harder: Annotated[
        bool, typer.Option("--harder", help="two shortcuts at once, one that agrees with the true cause, a noisy oracle")
    ] = False
    unnamed: Annotated[
        bool, typer.Option("--unnamed", help="shortcuts that no attribute names: all kinds, or two cells with --quick")
    ] = False
    real: Annotated[
        bool, typer.Option("--real", help="clothes (Fashion-MNIST) and solar cells (ELPV): all cells, or two with --quick")
    ] = False
    first: Annotated[int | None, typer.Option(min=1, help="only so many cells, from the grid's start")] = None
    skip: Annotated[int, typer.Option(min=0, help="leave out so many cells at the grid's start: another machine's")] = 0
    as_json: AsJson = False
    quiet: Quiet = False


@taking(BenchmarkOptions)
def benchmark(options: BenchmarkOptions) -> None:
    """Grade the audit on Portraits: train classifiers with a planted shortcut, audit them, compare with their exact effects.

    Run again after a kill, it goes on where it stopped. The marks are views: cfx query "from benchmark" -w FOLDER/warehouse
    """
    started = time.monotonic()
    settle(options.quiet)
    with user_errors():
        from flows.benchmark import GRIDS, marks, run_benchmark
        from flows.commands.audit import run_shown

        others = options.unnamed + options.real
        if options.quick + options.full + options.harder > 1 or others > 1 or (others and options.full + options.harder):
            raise UserError(
                "--quick, --full and --harder are three grids, and --unnamed and --real go with --quick alone; choose one"
            )
        if others:
            grade = grade_unnamed if options.unnamed else grade_real
            grade(options.folder, options.quick, slice(options.skip, options.first), options.quiet, options.as_json)
            return
        grid = GRIDS["full" if options.full else "harder" if options.harder else "quick"]
        run_benchmark(options.folder, grid, lambda config: run_shown(config, options.quiet), slice(options.skip, options.first))
        found = marks(options.folder / "warehouse")
    quieten()
    out.print(cells_table(found["cells"]))
    names = ("top1", "confirmed", "clean_silent", "realised_fdr", "spearman", "coverage")
    out.print(f"{found['images']} images: " + ", ".join(f"{name} {_number(found[name])}" for name in names))
    if options.as_json:
        print_json({"seconds": round(time.monotonic() - started, 1), **found})


def grade_unnamed(folder: Path, quick: bool, part: slice, quiet: bool, as_json: bool) -> None:
    """The grid of shortcuts without a name, and what was found of them."""
    from flows.commands.audit import run_shown
    from flows.unnamed import UNNAMED_GRIDS, run_unnamed, unnamed_marks

    started = time.monotonic()
    run_unnamed(folder, UNNAMED_GRIDS["quick" if quick else "full"], lambda config: run_shown(config, quiet), part)
    found = unnamed_marks(folder / "warehouse")
    rows = [
        {"kind": cell["kind"], **_planted(cell), "false attributes": _names(cell["false_attributes"])} for cell in found["cells"]
    ]
    marks = ("found", "named", "named_strong", "named_weak", "clean_silent", "false_confirmed", "edit_error_p95")
    _print_graded("unnamed shortcuts", rows, marks, found, time.monotonic() - started if as_json else None)


def grade_real(folder: Path, quick: bool, part: slice, quiet: bool, as_json: bool) -> None:
    """The grid of real images, and what was found of it."""
    from flows.commands.audit import run_shown
    from flows.real import REAL_GRIDS, real_marks, run_real

    started = time.monotonic()
    run_real(folder, REAL_GRIDS["quick" if quick else "full"], lambda config: run_shown(config, quiet), part)
    found = real_marks(folder / "warehouse")
    rows = [
        {"data": cell["data"], "kind": cell["kind"], **_planted(cell), "off by": _number(cell["measured"])}
        for cell in found["cells"]
    ]
    marks = ("found", "clean_silent", "error_p90")
    _print_graded("shortcuts on real images", rows, marks, found, time.monotonic() - started if as_json else None)


def _planted(cell: dict[str, Any]) -> dict[str, str]:
    """What both grids show of a cell, by column."""
    return {
        "rho": f"{cell['rho']:g}",
        "seed": str(cell["seed"]),
        "exact": f"{cell['exact']:+.2f}",
        "explained": _number(cell["explained_share"]),
        "called": _names(cell["called"]),
        "named": "–" if not cell["rho"] else "yes" if cell["named"] else "no",
    }


def _print_graded(
    title: str, rows: list[dict[str, str]], marks: tuple[str, ...], found: dict[str, Any], seconds: float | None
) -> None:
    """A table of cells and the marks over them; with `seconds` also all that was found, as JSON."""
    quieten()
    table = Table(title=title, title_justify="left")
    for heading in rows[0] if rows else ():
        table.add_column(heading, justify="left" if heading in ("data", "kind", "called", "false attributes") else "right")
    for row in rows:
        table.add_row(*map(escaped, row.values()))
    out.print(table)
    out.print(", ".join(f"{name} {_number(found[name])}" for name in marks))
    if seconds is not None:
        print_json({"seconds": round(seconds, 1), **found})


def _names(names: list[str]) -> str:
    return ", ".join(names) or "–"


def cells_table(cells: list[dict[str, Any]]) -> Table:
    table = Table(title="cells", title_justify="left")
    for heading in ("kind", "method", "rho", "seed", "images", "ranked first", "top 1", "confirmed", "false", "coverage"):
        table.add_column(heading, justify="left" if heading in ("kind", "method", "ranked first") else "right")
    for cell in cells:
        table.add_row(
            cell["kind"],
            cell["method"],
            f"{cell['rho']:g}",
            str(cell["seed"]),
            str(cell["images"]),
            escaped(cell["first"]),
            {True: "yes", False: "no", None: "–"}[cell["top1"]],
            _number(cell["confirmed"]),
            str(cell["false_claims"]),
            _number(cell["coverage"]),
        )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
