"""`cfx publish`: a run's results where teams look: MLflow, Weights & Biases, a model card, Prometheus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cfx.errors import UserError
from flows.options import taking
from flows.run_names import RunName, run_named
from flows.terminal import DEFAULT_WAREHOUSE, AsJson, Warehouse, check_out, err, escaped, out, print_json, user_errors

Archive = Annotated[
    bool, typer.Option("--archive/--no-archive", help="with the archive, which holds the images, or the report alone")
]


@dataclass(frozen=True)
class MlflowOptions:
    """Options of the command."""

    run: RunName
    tracking_uri: Annotated[
        str | None, typer.Option(envvar="MLFLOW_TRACKING_URI", help="server or store; default: MLflow's own, ./mlflow.db")
    ] = None
    experiment: Annotated[str, typer.Option(envvar="MLFLOW_EXPERIMENT_NAME", help="where the run stands in MLflow")] = "cfx"
    model: Annotated[
        str | None, typer.Option(help="registered model that was audited: its version is tagged with the result")
    ] = None
    version: Annotated[str | None, typer.Option(help="which version was audited; needed where there are several")] = None
    alias: Annotated[str | None, typer.Option(help="alias for that version, such as champion: set only if the gate passes")] = (
        None
    )
    archive: Archive = True
    warehouse: Warehouse = DEFAULT_WAREHOUSE
    as_json: AsJson = False


@taking(MlflowOptions)
def mlflow(options: MlflowOptions) -> None:
    """Log a run to MLflow, or update it there; give its model an alias, if the gate passes.

    With --alias the exit codes are those of `cfx gate`: 0 pass, 1 fail, 3 inconclusive (2: bad input).
    """
    from tasks.reading.release_checks import heading
    from warehouse.lens.gate import EXIT_CODES

    with user_errors():
        from warehouse.evidence.export import evidence_files
        from warehouse.evidence.results import read_results
        from warehouse.trackers import mlflow_run

        if options.model is None and (options.alias or options.version):
            raise UserError("--alias and --version are of a registered model: name it with --model")
        run = run_named(options.warehouse, options.run)
        client = mlflow_run.mlflow_client(options.tracking_uri)
        found = mlflow_run.audited_version(client, options.model, options.version) if options.model is not None else None
        results = read_results(options.warehouse, run)
        if found is not None and results.gate is None:
            raise UserError(f"run {run} has no policy yet; `cfx gate {run}` holds it to one")
        with evidence_files(options.warehouse, results, options.archive) as files:
            mlflow_id = mlflow_run.write_run(client, results, files, options.experiment)
        gate = results.gate
        alias = None
        if found is not None and gate is not None and mlflow_run.mark_version(client, found, gate, mlflow_id, options.alias):
            alias = options.alias
    version = f"version {found.version} of {found.name}" if found is not None else ""
    if options.as_json:
        said = {"run_id": run, "mlflow_run": mlflow_id, "experiment": options.experiment, "gate": gate and gate.verdict}
        print_json(said | {"model": options.model, "version": found and str(found.version), "alias": alias})
    else:
        out.print(f"MLflow run {mlflow_id} in experiment {escaped(options.experiment)}", soft_wrap=True)
        if alias is not None:
            out.print(f"{escaped(alias)}: {escaped(version)}", soft_wrap=True)
    if options.alias is not None and alias is None and gate is not None:
        words = f"{version} was not given the alias {options.alias}. {heading(gate)}"
        err.print(f"[bold red]blocked[/] {escaped(words)}", soft_wrap=True)
        raise typer.Exit(EXIT_CODES[gate.verdict])


def wandb(
    run: RunName,
    project: Annotated[str, typer.Option(envvar="WANDB_PROJECT", help="where the run stands in Weights & Biases")] = "cfx",
    folder: Annotated[Path, typer.Option("--out", "-o", help="the folder in which `wandb` is made")] = Path(),
    archive: Archive = True,
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
) -> None:
    """Write a run as an offline run of Weights & Biases; `wandb sync` uploads it, and nothing else does."""
    with user_errors():
        from warehouse.evidence.export import evidence_files
        from warehouse.evidence.results import read_results
        from warehouse.trackers.wandb_run import wandb_client, write_offline_run

        run = run_named(warehouse, run)
        wandb_client(folder)
        results = read_results(warehouse, run)
        with evidence_files(warehouse, results, archive) as files:
            written = write_offline_run(results, files, project, folder)
    out.print(f"{escaped(written)}\nupload it with: wandb sync {escaped(written)}", soft_wrap=True)


@dataclass(frozen=True)
class CardOptions:
    """Options of the command."""

    run: RunName
    to: Annotated[Path, typer.Option("--out", "-o", help="the file to write; it must not be there yet")] = Path("README.md")
    model: Annotated[str | None, typer.Option(help="the model's name; default: the audit's")] = None
    license: Annotated[str | None, typer.Option(help="license of the model, as the Hub names it: apache-2.0, mit, other")] = None
    base_model: Annotated[str | None, typer.Option(help="id of the model that it was made from: timm/resnet50.a1_in1k")] = None
    dataset: Annotated[list[str] | None, typer.Option(help="id of a data set that it was trained on; may be repeated")] = None
    warehouse: Warehouse = DEFAULT_WAREHOUSE


@taking(CardOptions)
def card(options: CardOptions) -> None:
    """Write a model card for the Hugging Face Hub: what the audit found, as `model-index` and in words."""
    with user_errors():
        from warehouse.evidence.model_card import About, model_card
        from warehouse.evidence.results import read_results

        check_out(options.to)
        if options.to.exists():
            raise UserError(f"--out: {options.to} is there already; name another file")
        about = About(options.license, options.base_model, tuple(options.dataset or ()), options.model)
        results = read_results(options.warehouse, run_named(options.warehouse, options.run))
        options.to.write_text(model_card(results, about), encoding="utf-8")
    out.print(escaped(options.to), soft_wrap=True)


def prometheus(
    run: RunName,
    to: Annotated[Path, typer.Option("--out", "-o", help="the file to write, NAME.prom, or the collector's folder")] = Path(
        "cfx.prom"
    ),
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
) -> None:
    """Write a run's numbers for Prometheus: a text file that node_exporter's textfile collector reads."""
    with user_errors():
        from warehouse.evidence.results import read_results
        from warehouse.trackers.prometheus_file import text_file, write_text_file

        run = run_named(warehouse, run)
        text_file(to, run)
        path = write_text_file(read_results(warehouse, run), to)
    out.print(escaped(path), soft_wrap=True)
