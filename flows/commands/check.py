"""`cfx check`: what an audit would understand of its settings, without running it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.progress import saying
from flows.terminal import AsJson, err, escaped, out, settle, user_errors


def check(config: Annotated[Path, typer.Argument(help="the audit's YAML")], as_json: AsJson = False) -> None:
    """Load everything an audit names, try the classifier on some of its images, and print what was understood. Nothing is
    written, and no black box is queried."""
    settle(quiet=True)
    with user_errors():
        found = show_checked(config)
    if as_json:
        print(json.dumps(found))  # noqa: T201


def show_checked(path: Path) -> dict[str, Any]:
    """Print what an audit of these settings understands, and return it for machines. Raises ConfigError."""
    from flows.settings import read_yaml

    read_yaml(path)  # what is no file of settings is refused at once: torch takes seconds to import
    with saying(err, False, "loading torch"):
        from flows.config import load_config
        from flows.engine import one_thread
        from tasks.check import check as checked
        from tasks.training.auto import expect_networks
        from tasks.understood import as_json as for_machines
        from tasks.understood import lines_of
    from warehouse.report.layers import layers_of
    from warehouse.report.layers import lines_of as left_out

    settings = load_config(path)
    with saying(err, False, f"checking {settings.name}: loading what its settings name"), one_thread():
        run = checked(settings, expect_networks)
    layers = layers_of(settings.model_dump_json())
    assert run.understood is not None
    run_id = None if run.understood.pending else run.id  # which depends on weights that are not there yet
    to_come = f"a new run, once {' and '.join(run.understood.pending)} are trained"
    known = to_come if run_id is None else f"run {escaped(run_id)}"
    out.print(f"[bold]{escaped(run.config.name)}[/] would be {known}", soft_wrap=True)
    for line in (*lines_of(run.understood), *left_out(layers)):
        out.print(escaped(line), soft_wrap=True, highlight=False)
    for warning in run.warnings:
        err.print(f"[yellow]warning[/] {escaped(warning)}", soft_wrap=True)
    return {"run_id": run_id, **for_machines(run.understood), "layers": layers, "warnings": run.warnings}
