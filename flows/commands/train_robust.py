"""`cfx train robust`: an adversarially trained classifier, for DVCE's cone and for SVCE."""

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
    Side,
    Split,
    show_lesson,
    table_settings,
)
from flows.options import taking
from flows.terminal import Quiet, err, escaped, out, user_errors


@dataclass(frozen=True)
class RobustOptions:
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


@taking(RobustOptions)
def robust(options: RobustOptions) -> None:
    """Train a classifier on attacked images: its gradients show shapes, so it can guide for another in DVCE's cone."""
    with user_errors():
        from flows.config import data_of, training_config
        from flows.progress import training_bar
        from tasks.training import from_folder as training
        from tasks.training.lesson import classes_of

        how = training_config(training.RobustTraining, options.config)
        lesson = classes_of(data_of(table_settings(options, options.size) | {"label_column": options.label}))
        show_lesson(lesson)
        with training_bar(err, options.quiet, how.steps) as reported:
            path = training.robust_from_lesson(lesson, options.to, how, reported)
    plain, attacked = training.robust_accuracies(path)
    out.print(f"  held-out accuracy {plain:.3f}, attacked at epsilon {how.epsilon:g} {attacked:.3f} (10 % of images)")
    out.print(f"robust: {escaped(path)}", soft_wrap=True)
