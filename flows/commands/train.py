"""`cfx train`: a prior, an oracle, a classifier, or the networks of the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.options import taking
from flows.terminal import DEFAULT_WAREHOUSE, Quiet, Warehouse, err, escaped, out, user_errors

Images = Annotated[Path, typer.Argument(help="a folder of images")]
OutFile = Annotated[Path, typer.Option("--out", "-o", help="the .safetensors file to write")]
Side = Annotated[int, typer.Option(help="side of the images, pixels")]
Split = Annotated[str | None, typer.Option(help="train on this split only, from the column `split`")]
Settings = Annotated[Path | None, typer.Option("--config", "-c", help="YAML with settings of the training")]


def prior(
    images: Annotated[Path, typer.Argument(help="a folder of images")],
    to: Annotated[Path, typer.Option("--out", "-o", help="folder of the prior; a killed training goes on from its checkpoint")],
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML with settings of the training")] = None,
    workers: Annotated[int, typer.Option(min=0, help="processes that read images ahead of the training")] = 1,
    quiet: Quiet = False,
) -> None:
    """Train a diffusion prior on a folder of images, which stay on disk."""
    with user_errors():
        from cfx.diffusion.training import PriorTraining
        from flows.config import training_config
        from flows.progress import training_bar
        from tasks.training.from_folder import prior_from_folder

        training = training_config(PriorTraining, config)
        with training_bar(err, quiet, training.steps) as reported:
            path = prior_from_folder(images, training, to, reported, workers)
    out.print(f"prior: {path}", soft_wrap=True)


@dataclass(frozen=True)
class OracleOptions:
    """Options of the command."""

    to: OutFile
    images: Annotated[Path | None, typer.Argument(help="a folder of images")] = None
    table: Annotated[Path | None, typer.Argument(help="CSV or Parquet with one 0/1 column an attribute")] = None
    teach: Annotated[str | None, typer.Option(help="a run: learn what was named in its explorer, too")] = None
    warehouse: Warehouse = DEFAULT_WAREHOUSE
    size: Side = 64
    split: Split = None
    config: Settings = None
    quiet: Quiet = False


@taking(OracleOptions)
def oracle(options: OracleOptions) -> None:
    """Train an oracle, which names the attributes of an image: from IMAGES and TABLE, or by names given in the explorer."""
    if options.teach is not None:
        if any(given is not None for given in (options.images, options.table, options.split, options.config)):
            raise typer.BadParameter(
                "it learns from ticked images alone: leave IMAGES, TABLE, --split, --config out", param_hint="--teach"
            )
        _teach(options.warehouse, options.teach, options.to)
        return
    if options.images is None or options.table is None:
        raise typer.BadParameter("give IMAGES and TABLE, or --teach RUN", param_hint="IMAGES TABLE")
    columns = {"table": options.table} | ({"split_column": "split", "split": options.split} if options.split else {})
    _train_on_table("oracle", options, options.images, columns)


@dataclass(frozen=True)
class ClassifierOptions:
    """Options of the command."""

    images: Images
    table: Annotated[Path, typer.Argument(help="CSV or Parquet with a column of class names")]
    label: Annotated[str, typer.Option(help="that column")]
    to: OutFile
    size: Side = 64
    split: Split = None
    config: Settings = None
    quiet: Quiet = False


@taking(ClassifierOptions)
def classifier(options: ClassifierOptions) -> None:
    """Train a classifier: a judge, or one to try an audit on."""
    columns = {"table": options.table, "label_column": options.label} | (
        {"split_column": "split", "split": options.split} if options.split else {}
    )
    _train_on_table("classifier", options, options.images, columns)


def portraits(
    to: Annotated[Path, typer.Option("--out", "-o", help="folder for the six networks")],
    only: Annotated[str | None, typer.Option(help="prior, text, planted, clean, judge or oracle; default: all of them")] = None,
    start: Annotated[Path | None, typer.Option("--from", help="a prior's folder to go on from; default: from nothing")] = None,
    quiet: Quiet = False,
) -> None:
    """Train the demo's networks on Portraits: planted, clean, judge, oracle, prior, and text, which grows from it (an hour)."""
    with user_errors():
        from flows.progress import training_bar
        from tasks.training.portraits import train_network, training_steps

        steps = training_steps(only)
        for name, count in steps.items():
            with training_bar(err, quiet, count) as reported:
                path = train_network(name, to, reported, start)
            out.print(f"{name}: {path}", soft_wrap=True)


def _teach(warehouse: Path, run: str, to: Path) -> None:
    with user_errors():
        from tasks.training.taught import teach_oracle

        taught = teach_oracle(warehouse, run, to)
    for each in taught:
        marked = f"{each.has} images that have it, {each.lacks} that have not"
        out.print(f"  {escaped(each.name)}: held-out accuracy {each.accuracy:.3f} (each image in turn; {marked})")
    out.print(f"oracle: {to}", soft_wrap=True)


def _train_on_table(kind: str, options: OracleOptions | ClassifierOptions, images: Path, table: dict[str, Any]) -> None:
    with user_errors():
        from flows.config import annotations_of, training_config
        from flows.progress import training_bar
        from tasks.data.annotations import columns_of, left_out
        from tasks.training import from_folder as training

        how = training_config(training.ClassifierTraining, options.config)
        annotations = annotations_of(table)
        if kind == "oracle" and (line := left_out(columns_of(annotations))):
            err.print(escaped(line), soft_wrap=True)
        recipe = {"oracle": training.oracle_from_folder, "classifier": training.classifier_from_folder}[kind]
        with training_bar(err, options.quiet, how.steps) as reported:
            path = recipe(images, annotations, options.size, options.to, how, reported)
    for name, accuracy in training.held_out_accuracy(path).items():
        out.print(f"  {escaped(name)}: held-out accuracy {accuracy:.3f} (10 % of images)")
    out.print(f"{kind}: {path}", soft_wrap=True)
