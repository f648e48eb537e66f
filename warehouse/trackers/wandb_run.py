"""Weights & Biases: a run in a folder, written offline. Nothing is sent; `wandb sync FOLDER` is how it is uploaded.

The run's id is the audit's run id, so that what is published again updates the same run. https://docs.wandb.ai/ref/python
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cfx.errors import UserError
from warehouse.evidence.results import Results, measured, shown_claims
from warehouse.lens.fetch import Row

ATTRIBUTES = ("attribute", "verdict", "effect", "low", "high", "intervention", "intervention_low", "intervention_high", "n")
CLAIMS = ("kind", "name", "class", "verdict", "intervention", "low", "high", "n", "why")
CHECKS = ("rule", "subject", "result", "value", "low", "high", "threshold", "n", "reason")
NOTHING_OF_THE_MACHINE = {  # an audit's facts are published, and not where it was published from
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "host": "",
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


def wandb_client(folder: Path) -> Any:
    """The package wandb, set up to send nothing and to keep all that it writes in `folder`/wandb.

    Raises UserError where it is not installed, or where there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder} to write `wandb` in; make it first")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when it is imported
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_DATA_DIR", str(folder.absolute() / "wandb"))  # of an artifact's files, otherwise in the home
    try:
        import wandb
    except ImportError as error:
        raise UserError("Weights & Biases is not installed; install it with: pip install 'cfx-audit[wandb]'") from error
    return wandb


def write_offline_run(results: Results, files: Sequence[Path], project: str, folder: Path) -> Path:
    """Configuration, summary, tables of verdicts and the report of a run in `folder`/wandb. Returns the run's folder.

    files: go into one artifact; the one called report.html is shown as a page of the run, too.
    Raises UserError as `wandb_client` does.
    """
    wandb = wandb_client(folder)
    run_id, name = results.run["run_id"], results.run["name"]
    settings: dict[str, Any] = NOTHING_OF_THE_MACHINE | {"mode": "offline", "resume": "allow", "root_dir": str(folder)}
    run = wandb.init(
        project=project,
        id=run_id,
        name=run_id,
        group=name,
        job_type="audit",
        notes=results.verdict.headline,
        tags=[f"gate:{results.gate.verdict}" if results.gate is not None else "gate:none"],
        config=json.loads(results.run["config"]) | {"code_version": results.run["code_version"]},
        settings=wandb.Settings(**settings),
    )
    try:
        run.summary.update(_summary(results))
        pages = {file.stem: wandb.Html(file) for file in files if file.name == "report.html"}
        tables = {
            "attributes": wandb.Table(list(ATTRIBUTES), _cells(results.attributes, ATTRIBUTES)),
            "properties_and_places": wandb.Table(list(CLAIMS), _cells(shown_claims(results), CLAIMS)),
            "release_checks": wandb.Table(list(CHECKS), _cells(results.gate.rules if results.gate else (), CHECKS)),
        }
        run.log(tables | pages)
        artifact = wandb.Artifact(f"{name}-evidence", "audit", description=results.verdict.headline)
        for file in files:
            artifact.add_file(str(file))
        run.log_artifact(artifact)
        written = Path(run.settings.sync_dir)
    finally:
        run.finish()
        wandb.teardown()  # its service would live as long as this process
    return written


def _summary(results: Results) -> dict[str, object]:
    gate = results.gate
    said = {"gate": "none", "gate_reasons": []} if gate is None else {"gate": gate.verdict, "gate_reasons": list(gate.reasons)}
    return {**measured(results), **said, "headline": results.verdict.headline}


def _cells(rows: Sequence[Row], columns: Sequence[str]) -> list[list[object]]:
    return [[row[column] for column in columns] for row in rows]
