"""`cfx repair`: train a classifier on, on what its audit found, and audit it again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cfx.errors import UserError
from flows.options import taking
from flows.run_names import RunName, run_named
from flows.terminal import (
    DEFAULT_WAREHOUSE,
    AsJson,
    Quiet,
    Warehouse,
    err,
    escaped,
    out,
    print_json,
    print_table,
    quieten,
    settle,
    user_errors,
)

METHODS = ("fine-tune", "reweight", "last-layer")


@dataclass(frozen=True)
class RepairOptions:
    """Options of the command."""

    run: RunName
    to: Annotated[
        Path | None,
        typer.Option("--to", help="the .safetensors file to write; default: repairs/RUN-METHOD.safetensors in the warehouse"),
    ] = None
    method: Annotated[
        str | None,
        typer.Option(help="fine-tune (the default: images, edits, counterfactuals), reweight (images alone), last-layer (DFR)"),
    ] = None
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML with settings of the training")] = None
    audit: Annotated[bool, typer.Option("--audit/--no-audit", help="audit the repaired classifier, too")] = True
    warehouse: Warehouse = DEFAULT_WAREHOUSE
    as_json: AsJson = False
    quiet: Quiet = False


@taking(RepairOptions)
def repair(options: RepairOptions) -> None:
    """Train a torch classifier on so that it no longer leans on what its audit, finished, confirmed, and audit it again.

    One half of the images repairs, the other, held out, grades. Beside the new weights are written the audit's YAML, the table of
    who was held out, the numbers as JSON, and one page that shows before and after. The old weights are not touched.
    """
    settle(options.quiet)
    with user_errors():
        run = run_named(options.warehouse, options.run)
        from cfx.training.repair import Repair
        from flows.config import load_config, training_config
        from flows.engine import one_thread
        from flows.progress import training_bar
        from flows.repair import audit_of_repair, before_and_after
        from tasks.training.repair import repair as repaired
        from tasks.training.repair import subject_of
        from warehouse.report.repair import write_page

        if options.method not in (None, *METHODS):
            raise UserError(f"--method: there is no {options.method!r}; there are {', '.join(METHODS)}")
        settings = training_config(Repair, options.config)
        if options.method is not None:
            settings = settings.model_copy(update={"method": options.method})
        to = _place(options, run, settings.method)
        subject = subject_of(options.warehouse, run)
        to.parent.mkdir(parents=True, exist_ok=True)
        with one_thread(), training_bar(err, options.quiet, settings.steps) as reported:
            found = repaired(options.warehouse, subject, settings, to, reported)
        file, alone = audit_of_repair(options.warehouse, subject, found)
        again = None
        if options.audit:
            from flows.commands.audit import run_shown

            again = run_shown(load_config(file), options.quiet)
        said = before_and_after(options.warehouse, found, again, alone)
        to.with_suffix(".json").write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        page = write_page(options.warehouse, said, to.with_suffix(".html"))
    quieten()
    _show(said, file, page)
    if options.as_json:
        print_json(said | {"yaml": str(file), "page": str(page)})


def _place(options: RepairOptions, run: str, method: str) -> Path:
    """The file of the new weights. Raises UserError for one that cannot be."""
    if options.to is None:
        if not isinstance(options.warehouse, type(Path())):
            raise UserError(f"--to: the warehouse {options.warehouse} is no local folder; name a local file for the weights")
        return options.warehouse / "repairs" / f"{run}-{method}.safetensors"
    if options.to.suffix != ".safetensors":
        raise UserError(f"--to: {options.to} must end in .safetensors, which is what is written")
    if not options.to.absolute().parent.is_dir():
        raise UserError(f"--to: there is no folder {options.to.absolute().parent}; make it first")
    return options.to


def _show(said: dict[str, Any], file: Path, page: Path) -> None:
    before, after = said["before"], said["after"]
    trained = ", ".join(f"{n} {kind}s" for kind, n in said["trained_on"].items() if n)
    out.print(f"trained on {trained}; graded on {said['held_out']} images held out", soft_wrap=True)
    for reason, n in said["left_out"].items():
        out.print(escaped(f"left out: {n} {reason}"), soft_wrap=True)
    table = Table("", "before", "after", title=escaped(f"{said['run']}: {said['settings']['method']}"), title_justify="left")
    table.add_row("accuracy, held out", *(_share(part["accuracy"]) for part in (before, after)))
    table.add_row("worst group, held out", *(_share(part["worst_group"]) for part in (before, after)))
    table.add_row("", *(escaped(part["worst_group"]["group"]) for part in (before, after)))
    for name in before["edited"]:
        table.add_row(escaped(f"{name}, edited, held out"), *(_effect(part["edited"].get(name)) for part in (before, after)))
    if after["audit"] is not None:
        for name in said["attributes"]:
            cells = (_effect(part["audit"]["edited"].get(name)) for part in (before, after))
            table.add_row(escaped(f"{name}, edited, by the audit"), *cells)
        table.add_row("gate", before["audit"]["gate"], after["audit"]["gate"])
    print_table(table)
    if after["audit"] is None:
        out.print(f"audit it: cfx audit {escaped(file)}", soft_wrap=True)
    else:
        if said["audited"] == "all":
            out.print("the audit after saw all images of the audit before, half of which repaired; held-out numbers are above")
        out.print(f"compare: cfx compare {escaped(after['audit']['run'])} {escaped(said['run'])}", soft_wrap=True)
    out.print(f"weights: {escaped(said['weights'])}", soft_wrap=True)
    out.print(f"page: {escaped(page)}", soft_wrap=True)


def _share(found: dict[str, Any]) -> str:
    return f"{found['value']:.1%} ({found['low']:.1%} to {found['high']:.1%}, n {found['n']})"


def _effect(found: dict[str, Any] | None) -> str:
    if found is None:
        return "–"
    value = found["effect"] if "effect" in found else found["value"]
    interval = f"{found['low']:+.3f} to {found['high']:+.3f}, " if found["low"] is not None else ""
    return f"{value:+.3f} ({interval}n {found['n']})"
