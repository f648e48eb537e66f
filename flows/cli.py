"""The command line, `cfx`: which commands there are. Each family is a file in flows/commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

import cfx
from flows.commands.agents import mcp
from flows.commands.alarm import alarm
from flows.commands.ask import docs, query, views
from flows.commands.audit import audit, demo
from flows.commands.benchmark import benchmark
from flows.commands.calibrate import calibrate
from flows.commands.check import check
from flows.commands.explain import explain
from flows.commands.gate import compare, gate
from flows.commands.import_data import import_data
from flows.commands.import_prior import import_prior
from flows.commands.init import init
from flows.commands.portraits import reliance
from flows.commands.propose import propose
from flows.commands.prune import prune
from flows.commands.publish import card, mlflow, prometheus, wandb
from flows.commands.repair import repair
from flows.commands.report import report
from flows.commands.runs import runs
from flows.commands.scrub import scrub
from flows.commands.serve import serve
from flows.commands.train import classifier, oracle, portraits, prior
from flows.commands.train_hit import hit
from flows.commands.train_robust import robust
from flows.commands.trend import trend
from flows.commands.verify import export, verify

AUDITING: tuple[Callable[..., None], ...] = (demo, init, check, audit, calibrate, explain, propose, repair)
ASKING: tuple[Callable[..., None], ...] = (
    runs,
    query,
    views,
    docs,
    report,
    gate,
    compare,
    trend,
    verify,
    scrub,
    export,
    serve,
    mcp,
)
PREPARING: tuple[Callable[..., None], ...] = (import_data, import_prior, reliance, prune, alarm, benchmark)
PUBLISHING: tuple[Callable[..., None], ...] = (mlflow, wandb, card, prometheus)
TRAINING: tuple[Callable[..., None], ...] = (prior, oracle, classifier, robust, hit, portraits)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Audit image classifiers with counterfactual explanations. Exit codes: 0 done, 1 the work failed, 2 bad input.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cfx {cfx.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="the version")] = False,
) -> None:
    """What every command shares: nothing but the version."""


for command in (*AUDITING, *ASKING, *PREPARING):
    app.command()(command)

train = typer.Typer(no_args_is_help=True, help="Train a prior, an oracle, or the networks of the demo.")
for command in TRAINING:
    train.command()(command)
app.add_typer(train, name="train")
publish = typer.Typer(no_args_is_help=True, help="Put a run's results where teams look: MLflow, W&B, a model card, Prometheus.")
for command in PUBLISHING:
    publish.command()(command)
app.add_typer(publish, name="publish")

if __name__ == "__main__":
    app(prog_name="cfx")
