"""The confusion matrix as a table: true labels against predicted classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from warehouse.lens.fetch import Row

MOST = 8  # classes; of more, only what is taken for another most often


@dataclass(frozen=True)
class Matrix:
    """rows: a label, (class, images, share of the label) for each class, and the label's row of the view `accuracy`."""

    classes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, int, float], ...], Row], ...]


def matrix(classes: Sequence[str], counted: Sequence[Row], recalls: Sequence[Row]) -> Matrix | None:
    """From rows of the views `confusion` and `accuracy` (by label); None without labels, and of more than MOST classes."""
    if not counted or len(classes) > MOST:
        return None
    found = {(row["label"], row["class"]): (row["n"], row["value"]) for row in counted}
    by_label = {row["label"]: row for row in recalls}
    labels = [*(name for name in classes if name in by_label), *(name for name in by_label if name not in classes)]
    rows = tuple(
        (label, tuple((name, *found.get((label, name), (0, 0.0))) for name in classes), by_label[label]) for label in labels
    )
    return Matrix(tuple(classes), rows)
