"""A table beside a folder of images, as an audit reads it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_table(table: Path, columns: Mapping[str, Sequence[object]]) -> Path:
    """A CSV file of these columns, all of one length."""
    with table.open("w", newline="") as lines:
        csv.writer(lines, lineterminator="\n").writerows([list(columns), *zip(*columns.values(), strict=True)])
    return table
