"""A folder a class becomes a table beside the settings."""

from __future__ import annotations

from pathlib import Path

from cfx.errors import UserError
from tasks.data.formats.splits import split_named
from tasks.first_look.images import ImagesFound
from tasks.training.table import write_table

NAME = "table.csv"


def table_of_folders(images: ImagesFound, home: Path) -> Path:
    """Write the table of images that lie in a folder a class; without classes, of their files alone.

    Raises UserError where a file of that name is there.
    """
    table = home / NAME
    if table.exists():
        raise UserError(f"{table} is there, and nothing is overwritten; give it as TABLE, or move it away")
    columns: dict[str, list[object]] = {"file": list(images.files)}
    if images.classes:
        columns["label"] = [next(part for part in file.split("/")[:-1] if part in images.classes) for file in images.files]
    splits = [_split_of(file) for file in images.files]
    if any(splits):
        columns["split"] = [split or "" for split in splits]
    return write_table(table, columns)


def _split_of(file: str) -> str | None:
    return next((split for part in file.split("/")[:-1] if (split := split_named(part))), None)
