"""The command line, `cfx`. Every command is a thin door to a function that a notebook can call."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from flows.config import AuditConfig

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Audit image classifiers with counterfactual explanations. Exit codes: 0 done, 1 the work failed, 2 bad input.",
)
train_app = typer.Typer(no_args_is_help=True, help="Train a prior, an oracle, or the networks of the demo.")
app.add_typer(train_app, name="train")

Warehouse = Annotated[Path, typer.Option("--warehouse", "-w", help="the warehouse's folder")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="log lines instead of progress bars")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object as the last line")]
DEFAULT_WAREHOUSE = Path("cfx-demo/warehouse")

out, err = Console(), Console(stderr=True)


@contextmanager
def told() -> Iterator[None]:
    """Bad input ends with its message and exit code 2, without a trace; anything else is a defect and keeps its trace."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        err.print(f"[bold red]error[/] {_escaped(str(error))}", soft_wrap=True)
        raise typer.Exit(2) from None


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _settle(quiet: bool) -> bool:
    """Set Prefect and torch up for one machine; returns whether bars are shown."""
    shown = not quiet and err.is_terminal
    for name, value in {
        "PREFECT_LOGGING_LEVEL": "ERROR" if shown else "INFO",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",  # a first start takes 20-30 s on a small machine
        "DO_NOT_TRACK": "1",
    }.items():
        os.environ.setdefault(name, value)
    sys.path.insert(0, os.getcwd())  # a user's `module: my_package:my_network`
    return shown


def _run(config: AuditConfig, shown: bool) -> str:
    """Check, then audit, under progress bars if they are shown."""
    from flows.audit import run_audit
    from flows.check import check, prior_of

    checked = check(config)
    bars: Any = nullcontext()
    if shown:
        from flows.progress import watched

        bars = watched(err, config.warehouse, checked.run_id, prior_of(config))
    with bars:
        return run_audit(config)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="where pictures, facts and reports go")] = Path("cfx-demo"),
    images: Annotated[int, typer.Option(min=8, help="portraits to audit")] = 128,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Audit the planted-shortcut classifier of Portraits and its clean twin; print the table, write the reports."""
    started = time.monotonic()
    shown = _settle(quiet)
    with told():
        from flows.demo import TWINS, demo_config, findings, lay_out
        from tasks.ask import report_path

        lay_out(folder, images)
        found = {}
        for twin in TWINS:
            config = demo_config(folder, twin, images)
            found[twin] = findings(config.warehouse, _run(config, shown))
    _quieten()
    for twin, finding in found.items():
        out.print(_findings_table(twin, finding))
        out.print(f"report: {report_path(folder / 'warehouse', finding['run_id'])}", soft_wrap=True)
    out.print(f'ask: cfx query "select * from scorecard" -w {folder / "warehouse"}', soft_wrap=True)
    if as_json:
        print(json.dumps({"seconds": round(time.monotonic() - started, 1), **found}))  # noqa: T201


def _quieten() -> None:
    """The work is done: Prefect's farewell must not come after the result."""
    import logging

    logging.getLogger("prefect").setLevel(logging.WARNING)


def _findings_table(name: str, finding: dict[str, Any]) -> Table:
    rates = f"flip rate {finding['flip_rate']:.3f}, judge flip rate {finding['judge_flip_rate']:.3f}"
    table = Table(title=f"{name}: {rates}", title_justify="left", caption=f"run {finding['run_id']}", caption_justify="left")
    for heading in ("attribute", "effect", "low", "high", "q", "status"):
        table.add_column(heading, justify="left" if heading in ("attribute", "status") else "right")
    for row in finding["attributes"]:
        numbers = (f"{row[key]:+.3f}" for key in ("effect", "low", "high"))
        table.add_row(_escaped(row["attribute"]), *numbers, f"{row['q']:.4f}", row["status"])
    return table


@app.command()
def audit(
    config: Annotated[Path, typer.Argument(help="the audit's YAML")],
    resume: Annotated[bool, typer.Option("--resume", help="go on with an unfinished run; also what happens without it")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Audit a classifier. Run again after a kill, it goes on where it stopped: finished shards are not computed twice."""
    shown = _settle(quiet)
    with told():
        from flows.config import load_config
        from flows.demo import findings
        from tasks.ask import report_path

        settings = load_config(config)
        finding = findings(settings.warehouse, _run(settings, shown))
    _quieten()
    out.print(_findings_table(settings.name, finding))
    out.print(f"report: {report_path(settings.warehouse, finding['run_id'])}", soft_wrap=True)
    if as_json:
        print(json.dumps(finding))  # noqa: T201


@app.command()
def explain(
    image: Annotated[Path, typer.Argument(help="a picture")],
    target: Annotated[str, typer.Option(help="class to ask for, or opposite, or second-best")] = "opposite",
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="an audit's YAML; default: the demo's planted classifier")
    ] = None,
    to: Annotated[Path, typer.Option("--out", "-o", help="where the picture goes")] = Path("explanation.png"),
    seed: Annotated[int, typer.Option(help="seed of the noise")] = 0,
) -> None:
    """Explain one picture: input, counterfactual, mask and difference side by side."""
    _settle(quiet=True)
    with told():
        from flows.check import device_of, prior_of
        from flows.config import load_config
        from flows.demo import demo_config
        from tasks.single import explain_image

        settings = load_config(config) if config is not None else demo_config(Path("cfx-demo"), "planted", 1)
        with err.status("explaining"):
            found = explain_image(
                image,
                to,
                prior_of(settings),
                settings.classifier,
                settings.oracle,
                settings.ladder,
                target,
                seed,
                settings.data.size,
                device_of(settings),
            )
    out.print(f"{found.source} -> {found.target}: p({_escaped(found.target)}) {found.before:.3f} -> {found.after:.3f}")
    out.print("flipped" if found.flipped else "[yellow]did not flip[/]: the last rung of the ladder is shown")
    for attribute, before, after in found.changed:
        out.print(f"  {_escaped(attribute)}: {before:.2f} -> {after:.2f}")
    out.print(f"picture: {to}", soft_wrap=True)


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="one SELECT")],
    warehouse: Warehouse = DEFAULT_WAREHOUSE,
    form: Annotated[str, typer.Option("--format", "-f", help="table, csv or json")] = "table",
) -> None:
    """Ask the warehouse in SQL, read-only; safe while an audit is writing."""
    with told():
        if form not in ("table", "csv", "json"):
            raise ValueError(f"--format: {form!r} is not one of table, csv, json")
        if not warehouse.is_dir():
            raise ValueError(f"there is no warehouse at {warehouse}; give one with --warehouse, or make one with `cfx demo`")
        from tasks.ask import query as ask

        answer = ask(warehouse, sql)
    if form == "json":
        print(json.dumps(answer.to_pylist(), default=str))  # noqa: T201
    elif form == "csv":
        import pyarrow.csv

        pyarrow.csv.write_csv(answer, sys.stdout.buffer)
    else:
        table = Table(*map(_escaped, answer.column_names))
        for row in answer.to_pylist():
            table.add_row(*(_escaped(_cell(value)) for value in row.values()))
        out.print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return "" if value is None else str(value)


@app.command()
def views(warehouse: Warehouse = DEFAULT_WAREHOUSE) -> None:
    """What can be asked: every fact and view with its columns."""
    with told():
        from tasks.ask import views as listed

        for view in listed(warehouse):
            out.print(f"[bold]{view.name}[/]  {_escaped(view.description)}")
            out.print("  " + ", ".join(f"{_escaped(name)} [dim]{kind}[/]" for name, kind in view.columns))


@app.command()
def report(run: Annotated[str, typer.Argument(help="run id")], warehouse: Warehouse = DEFAULT_WAREHOUSE) -> None:
    """Write the HTML report of a run again and print its path."""
    with told():
        from tasks.ask import write_report

        out.print(str(write_report(warehouse, run)), soft_wrap=True)


@app.command()
def reliance(
    weights: Annotated[list[str] | None, typer.Argument(help="classifiers; default: the bundled planted and clean twins")] = None,
    portraits: Annotated[int, typer.Option(min=1, help="portraits to render")] = 500,
) -> None:
    """The true reliance of a Portraits classifier on each attribute: render, toggle one attribute, render again, ask twice."""
    with told():
        from tasks.portraits import reliance as measured

        chosen = weights or ["portraits:planted", "portraits:clean"]
        columns = [measured(name, portraits) for name in chosen]
    table = Table(
        "attribute", *chosen, title=f"mean change of P(smiling) when switched on, {portraits} portraits", title_justify="left"
    )
    for rows in zip(*columns, strict=True):
        table.add_row(rows[0].attribute, *(f"{row.effect:+.3f}" for row in rows))
    out.print(table)


@train_app.command("prior")
def train_prior(
    images: Annotated[Path, typer.Argument(help="a folder of pictures")],
    to: Annotated[Path, typer.Option("--out", "-o", help="folder of the prior; a killed training goes on from its checkpoint")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML with settings of the training")] = None,
    quiet: Quiet = False,
) -> None:
    """Train a diffusion prior on a folder of pictures."""
    with told():
        from flows.config import training_config
        from flows.progress import training_bar
        from tasks.training import PriorTraining, prior_from_folder

        training = training_config(PriorTraining, config)
        with training_bar(err, quiet, training.steps) as reported:
            path = prior_from_folder(images, training, to, reported)
    out.print(f"prior: {path}", soft_wrap=True)


def _train_on_table(
    kind: str, images: Path, table: dict[str, Any], size: int, to: Path, config: Path | None, quiet: bool
) -> None:
    with told():
        from flows.config import annotations_of, training_config
        from flows.progress import training_bar
        from tasks import training

        how = training_config(training.ClassifierTraining, config)
        recipe = {"oracle": training.oracle_from_folder, "classifier": training.classifier_from_folder}[kind]
        with training_bar(err, quiet, how.steps) as reported:
            path = recipe(images, annotations_of(table), size, to, how, reported)
    for name, accuracy in training.held_out_accuracy(path).items():
        out.print(f"  {_escaped(name)}: {accuracy:.3f} right of the tenth held out")
    out.print(f"{kind}: {path}", soft_wrap=True)


Images = Annotated[Path, typer.Argument(help="a folder of pictures")]
OutFile = Annotated[Path, typer.Option("--out", "-o", help="the .safetensors file to write")]
Side = Annotated[int, typer.Option(help="side of the pictures, pixels")]
Split = Annotated[str | None, typer.Option(help="train on this split only, from the column `split`")]
Settings = Annotated[Path | None, typer.Option("--config", "-c", help="YAML with settings of the training")]


@train_app.command("oracle")
def train_oracle(
    images: Images,
    table: Annotated[Path, typer.Argument(help="CSV or Parquet with one 0/1 column an attribute")],
    to: OutFile,
    size: Side = 64,
    split: Split = None,
    config: Settings = None,
    quiet: Quiet = False,
) -> None:
    """Train an oracle: a network that names the attributes of a picture."""
    columns = {"table": table} | ({"split_column": "split", "split": split} if split else {})
    _train_on_table("oracle", images, columns, size, to, config, quiet)


@train_app.command("classifier")
def train_classifier(
    images: Images,
    table: Annotated[Path, typer.Argument(help="CSV or Parquet with a column of class names")],
    label: Annotated[str, typer.Option(help="that column")],
    to: OutFile,
    size: Side = 64,
    split: Split = None,
    config: Settings = None,
    quiet: Quiet = False,
) -> None:
    """Train a classifier: a judge, or one to try an audit on."""
    columns = {"table": table, "label_column": label} | ({"split_column": "split", "split": split} if split else {})
    _train_on_table("classifier", images, columns, size, to, config, quiet)


@train_app.command("portraits")
def train_portraits(
    to: Annotated[Path, typer.Option("--out", "-o", help="folder for the five networks")],
    only: Annotated[str | None, typer.Option(help="prior, planted, clean, judge or oracle; default: all of them")] = None,
    quiet: Quiet = False,
) -> None:
    """Train the demo's networks on rendered Portraits: prior, planted, clean, judge, oracle (about an hour of one core)."""
    with told():
        from flows.progress import training_bar
        from tasks.portraits import train_network, training_steps

        steps = training_steps(only)
        for name, count in steps.items():
            with training_bar(err, quiet, count) as reported:
                path = train_network(name, to, reported)
            out.print(f"{name}: {path}", soft_wrap=True)
