"""`cfx train hit`: a classifier that shows its own evidence, by the paper's recipe or a small one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.train import (
    Bits,
    FileColumn,
    Images,
    MaxRejected,
    OutFile,
    Settings,
    Split,
    show_lesson,
    table_settings,
)
from flows.options import taking
from flows.terminal import Quiet, err, escaped, out, user_errors


@dataclass(frozen=True)
class HitOptions:
    """Options of the command."""

    images: Images
    table: Annotated[Path, typer.Argument(help="CSV or Parquet with a column of class names")]
    label: Annotated[str, typer.Option(help="that column")]
    to: OutFile
    preset: Annotated[str, typer.Option(help="imagenet, cub, dogs or cars: the paper's; portraits: small")] = "imagenet"
    architecture: Annotated[str, typer.Option(help="hit, or vit: a plain ViT of the same shape by the same recipe")] = "hit"
    split: Split = None
    file_column: FileColumn = "file"
    max_rejected: MaxRejected = 0.5
    bits: Bits = None
    config: Settings = None
    quiet: Quiet = False


@taking(HitOptions)
def hit(options: HitOptions) -> None:
    """Train a HiT, whose logits are sums over patches; a killed training goes on from its checkpoint."""
    with user_errors():
        from flows.config import data_of, training_config
        from flows.progress import training_bar
        from tasks.training import from_folder as training
        from tasks.training.lesson import classes_of

        how = training_config(training.HiTTraining, options.config, training.hit_recipe(options.preset, options.architecture))
        lesson = classes_of(data_of(table_settings(options, how.shape.size) | {"label_column": options.label}))
        show_lesson(lesson)
        with training_bar(err, options.quiet, training.hit_steps(lesson, how)) as reported:
            path = training.hit_from_lesson(lesson, options.to, how, reported)
    for name, accuracy in training.held_out_accuracy(path).items():
        out.print(f"  {escaped(name)}: held-out accuracy {accuracy:.3f} (10 % of images)")
    out.print(f"{how.architecture}: {escaped(path)}", soft_wrap=True)
