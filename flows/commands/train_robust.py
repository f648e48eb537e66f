"""`cfx train robust`: an adversarially trained classifier, for DVCE's cone and for SVCE."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.train import Images, OutFile, Settings, Side, Split
from flows.terminal import Quiet, err, out, user_errors


def robust(
    images: Images,
    table: Annotated[Path, typer.Argument(help="CSV or Parquet with a column of class names")],
    label: Annotated[str, typer.Option(help="that column")],
    to: OutFile,
    size: Side = 64,
    split: Split = None,
    config: Settings = None,
    quiet: Quiet = False,
) -> None:
    """Train a classifier on attacked images: its gradients show shapes, so it can guide for another in DVCE's cone."""
    with user_errors():
        from flows.config import annotations_of, training_config
        from flows.progress import training_bar
        from tasks.training import from_folder as training

        how = training_config(training.RobustTraining, config)
        columns = {"table": table, "label_column": label} | ({"split_column": "split", "split": split} if split else {})
        lesson = training.read_lesson(images, annotations_of(columns), size)
        with training_bar(err, quiet, how.steps) as reported:
            path = training.robust_from_lesson(lesson, to, how, reported)
    plain, attacked = training.robust_accuracies(path)
    out.print(f"  held-out accuracy {plain:.3f}, attacked at epsilon {how.epsilon:g} {attacked:.3f} (10 % of images)")
    out.print(f"robust: {path}", soft_wrap=True)
