"""`cfx train`: a prior, an oracle, a classifier, or the networks of the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.options import taking
from flows.terminal import DEFAULT_WAREHOUSE, Quiet, Warehouse, err, escaped, out, user_errors

if TYPE_CHECKING:
    from tasks.training.lesson import Lesson

Images = Annotated[Path, typer.Argument(help="a folder of images")]
OutFile = Annotated[Path, typer.Option("--out", "-o", help="the .safetensors file to write")]
Side = Annotated[int, typer.Option(help="side of the images, pixels")]
Split = Annotated[str | None, typer.Option(help="train on this split only, from the column `split`")]
FileColumn = Annotated[str, typer.Option(help="column with the path of each image, also inside a tar or a Parquet file")]
MaxRejected = Annotated[float, typer.Option(min=0, max=1, help="share of rows without an image or an answer above which to stop")]
Bits = Annotated[int | None, typer.Option(min=9, max=16, help="of 16-bit grey, how many are used, where files do not say it")]
Settings = Annotated[Path | None, typer.Option("--config", "-c", help="YAML with settings of the training")]


@dataclass(frozen=True)
class PriorOptions:
    """Options of the command."""

    images: Images
    to: Annotated[Path, typer.Option("--out", "-o", help="folder of the prior; a killed training goes on from its checkpoint")]
    distil: Annotated[
        str | None,
        typer.Option(
            metavar="TEACHER", help="a trained prior's folder, or portraits:prior: distil it, on these images, to few steps"
        ),
    ] = None
    config: Settings = None
    workers: Annotated[int, typer.Option(min=0, help="processes that read images ahead of the training")] = 1
    image_key: Annotated[
        str | None, typer.Option(help="which image of a sample counts, where there are masks beside: jpg, input.png")
    ] = None
    bits: Bits = None
    quiet: Quiet = False


@taking(PriorOptions)
def prior(options: PriorOptions) -> None:
    """Train a diffusion prior on a folder of images, which stay on disk, or distil one to few steps."""
    with user_errors():
        from cfx.diffusion.distillation import Distillation
        from cfx.diffusion.training import PriorTraining
        from flows.config import training_config
        from flows.progress import training_bar
        from tasks.training.folder_images import folder_images
        from tasks.training.from_folder import distilled_from_images, prior_from_images

        if options.distil is not None:
            distillation = training_config(Distillation, options.config)
            steps = distillation.halvings * distillation.updates
        else:
            training = training_config(PriorTraining, options.config)
            steps = training.steps
        images = folder_images(options.images, keys_of(options.image_key), options.bits)
        for line in (f"{len(images.files):,} images", *(f"left out: {line}" for line in images.left_out)):
            out.print(escaped(line), soft_wrap=True)
        with training_bar(err, options.quiet, steps) as reported:
            if options.distil is not None:
                path = distilled_from_images(images, options.distil, distillation, options.to, reported, options.workers)
            else:
                path = prior_from_images(images, training, options.to, reported, options.workers, err.print)
    out.print(f"prior: {escaped(path)}", soft_wrap=True)
    if options.distil is not None:
        out.print(f"made for `steps: {distillation.steps}` of a ladder, and refused with any other", soft_wrap=True)


def keys_of(parted: str | None) -> tuple[str, ...]:
    """Words parted by commas."""
    return tuple(word.strip() for word in (parted or "").split(",") if word.strip())


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
    file_column: FileColumn = "file"
    attributes: Annotated[
        str | None, typer.Option(help="columns to learn, parted by commas; default: every yes/no column, which are printed")
    ] = None
    max_rejected: MaxRejected = 0.5
    bits: Bits = None
    config: Settings = None
    quiet: Quiet = False


@taking(OracleOptions)
def oracle(options: OracleOptions) -> None:
    """Train an oracle, which names the attributes of an image: from IMAGES and TABLE, or by names given in the explorer."""
    if options.teach is not None:
        if any(given is not None for given in (options.images, options.table, options.split, options.attributes, options.config)):
            raise typer.BadParameter(
                "it learns from ticked images alone: leave IMAGES, TABLE, --split, --attributes, --config out",
                param_hint="--teach",
            )
        _teach(options.warehouse, options.teach, options.to)
        return
    if options.images is None or options.table is None:
        raise typer.BadParameter("give IMAGES and TABLE, or --teach RUN", param_hint="IMAGES TABLE")
    given = {"attribute_columns": keys_of(options.attributes)} if options.attributes is not None else {}
    _train_on_table("oracle", options, table_settings(options, options.size) | given)


@dataclass(frozen=True)
class ClassifierOptions:
    """Options of the command."""

    images: Images
    table: Annotated[Path, typer.Argument(help="CSV or Parquet with a column of class names")]
    label: Annotated[str, typer.Option(help="that column")]
    to: OutFile
    size: Side = 64
    split: Split = None
    file_column: FileColumn = "file"
    max_rejected: MaxRejected = 0.5
    bits: Bits = None
    config: Settings = None
    quiet: Quiet = False


@taking(ClassifierOptions)
def classifier(options: ClassifierOptions) -> None:
    """Train a classifier: a judge, or one to try an audit on."""
    _train_on_table("classifier", options, table_settings(options, options.size) | {"label_column": options.label})


def portraits(
    to: Annotated[Path, typer.Option("--out", "-o", help="folder for the eight networks")],
    only: Annotated[str | None, typer.Option(help="one of them, by its name; default: all of them")] = None,
    start: Annotated[Path | None, typer.Option("--from", help="a prior's folder to go on from; default: from nothing")] = None,
    quiet: Quiet = False,
) -> None:
    """Train the demo's networks on Portraits; prior and text take an hour each, flow a quarter; both grow from a prior."""
    with user_errors():
        from flows.progress import training_bar
        from tasks.training.portraits import train_network, training_steps, words_agreement

        steps = training_steps(only)
        for name, count in steps.items():
            with training_bar(err, quiet, count) as reported:
                path = train_network(name, to, reported, start)
            out.print(f"{name}: {escaped(path)}", soft_wrap=True)
            for attribute, found in words_agreement(str(path), 500).items() if name == "words" else ():
                out.print(
                    f"  {escaped(attribute)}: balanced accuracy {found.balanced_accuracy:.3f} (500 other portraits)",
                    soft_wrap=True,
                )


def _teach(warehouse: Path, run: str, to: Path) -> None:
    with user_errors():
        from tasks.training.taught import teach_oracle

        taught = teach_oracle(warehouse, run, to)
    for each in taught:
        marked = f"{each.has} images that have it, {each.lacks} that have not"
        out.print(f"  {escaped(each.name)}: held-out accuracy {each.accuracy:.3f} (each image in turn; {marked})")
    out.print(f"oracle: {escaped(to)}", soft_wrap=True)


def table_settings(options: Any, size: int) -> dict[str, Any]:
    """What the commands that learn from a table say of it, as `data:` of an audit would."""
    split = {"split_column": "split", "split": options.split} if options.split else {}
    same = {name: getattr(options, name) for name in ("table", "file_column", "max_rejected", "bits")}
    return {"images": str(options.images), "size": size} | same | split


def show_lesson(lesson: Lesson) -> None:
    """Say what is learned from, and what of the table is not."""
    for line in (f"{len(lesson.images):,} images", *lesson.remarks.sentences):
        out.print(escaped(line), soft_wrap=True)
    for reason in lesson.remarks.left_out():
        out.print(escaped(f"left out: {reason}"), soft_wrap=True)


def _train_on_table(kind: str, options: OracleOptions | ClassifierOptions, table: dict[str, Any]) -> None:
    with user_errors():
        from flows.config import data_of, training_config
        from flows.progress import training_bar
        from tasks.training import from_folder as training
        from tasks.training.lesson import attributes_of, classes_of

        how = training_config(training.ClassifierTraining, options.config)
        lesson = (attributes_of if kind == "oracle" else classes_of)(data_of(table))
        show_lesson(lesson)
        with training_bar(err, options.quiet, how.steps) as reported:
            path = training.convnet_from_lesson(lesson, options.to, how, reported)
    for name, accuracy in training.held_out_accuracy(path).items():
        out.print(f"  {escaped(name)}: held-out accuracy {accuracy:.3f} (10 % of images)")
    out.print(f"{kind}: {escaped(path)}", soft_wrap=True)
