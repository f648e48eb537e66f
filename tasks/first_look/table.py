"""A user's table, looked at: which column names the images, which is the label, which tell splits, which say yes or no."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from cfx.errors import UserError, did_you_mean
from tasks.advice.associations import SAME, Association, associations_of, striking
from tasks.data.annotations import Annotations, columns_of, listing, text_of
from tasks.data.formats.splits import split_named
from tasks.data.yes_or_no import yes_or_no
from tasks.first_look.images import ImagesFound

MATCHED = 0.5  # share of a column's cells that name files of the folder: from here on it is the file column
MOST_CLASSES = 1_000
SHOWN = 5
LABELS = ("label", "labels", "class", "classes", "class name", "target", "category", "diagnosis", "y", "truth")
IDS = re.compile(r"(.*[_ ])?(ids?|uid|index|idx|number|no|name|path|url|row)|unnamed.*", re.I)
ENOUGH = 64  # images of a split of its own that an audit can say something of


@dataclass(frozen=True)
class TableFound:
    """What a table says of the images."""

    path: Path
    images: Path  # the folder that its files are relative to
    rows: int
    file_column: str
    missing: int  # rows whose file is not there
    label_column: str | None
    labels: dict[str, int]
    candidates: tuple[str, ...]  # other columns that may be the label
    split_column: str | None
    splits: dict[str, int]
    split: str | None  # the one to audit: images that nothing was trained on
    attributes: tuple[str, ...]
    left_out: dict[str, str]  # column -> why
    associations: tuple[Association, ...]
    target_attribute: str | None  # the attribute that is the label itself

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        goes_with = [
            {"label": one.label, "attribute": one.attribute, "r": one.phi, "lift": one.lift, "n": one.n}
            for one in self.associations
        ]
        return {
            "path": str(self.path),
            "rows": self.rows,
            "file_column": self.file_column,
            "missing": self.missing,
            "label_column": self.label_column,
            "labels": self.labels,
            "candidates": list(self.candidates),
            "split_column": self.split_column,
            "splits": self.splits,
            "attributes": list(self.attributes),
            "left_out": self.left_out,
            "associations": goes_with,
            "target_attribute": self.target_attribute,
        }

    def lines(self) -> list[str]:
        """For people."""
        said = [f"table: {self.rows:,} rows; files in column {self.file_column!r}"]
        if self.label_column is not None:
            named = [f"{n:,} {name}" for name, n in list(self.labels.items())[:8]]
            said.append(f"labels in column {self.label_column!r}: {', '.join(named)}{', …' if len(self.labels) > 8 else ''}")
        if self.split_column is not None:
            named = [f"{n:,} {name}" for name, n in self.splits.items()]
            said.append(f"splits in column {self.split_column!r}: {', '.join(named)}; audited: {self.split or 'all'}")
        said.append(f"yes/no attributes: {', '.join(self.attributes) or 'none'}")
        if self.target_attribute is not None:
            said.append(f"{self.target_attribute!r} is the label itself: `target_attribute`, left out of the ranking")
        said += [one.sentence() for one in striking(list(self.associations), self.target_attribute)[:SHOWN]]
        return said + [f"left out: column {name!r}: {why}" for name, why in self.left_out.items()]

    def warnings(self) -> list[str]:
        """What to know before an audit."""
        said = []
        if self.missing:
            said.append(f"table: {self.missing:,} of {self.rows:,} rows name files that are not in {self.images}")
        if self.label_column is None:
            said.append("table: no column of labels, so nothing is said of right and wrong; --label names one")
        return said


@dataclass(frozen=True)
class Choices:
    """What the user says of the table; the rest is looked for. classes: the network's, where it has names."""

    file_column: str | None = None
    label_column: str | None = None
    classes: tuple[str, ...] = ()


def look_at_table(path: Path, images: ImagesFound, choices: Choices) -> TableFound:
    """Read a table. Raises UserError for a table without a column of files, and for a column that is not there."""
    text = text_of(path)
    folder, file_column, missing = _files(path, text, images, choices.file_column)
    label_column, candidates = _label(path, text, file_column, choices)
    split_column, splits = _splits(text, {file_column, label_column})
    split = next((name for name, n in splits.items() if split_named(name) == "test" and n >= ENOUGH), None)
    columns = {"table": path, "file_column": file_column, "label_column": label_column}
    config = Annotations.model_validate(columns | ({"split_column": split_column} if split_column else {}))
    uses = columns_of(config)
    attributes = tuple(use.column for use in uses if use.role == "attribute" and use.column != label_column)
    found = tuple(one for one in associations_of(listing(config)) if one.attribute != label_column)
    itself = next((one.attribute for one in found if abs(one.phi) >= SAME), None)
    labels = Counter(cell.strip() for cell in text[label_column].to_pylist() if cell and cell.strip()) if label_column else {}
    return TableFound(
        path,
        folder,
        len(text),
        file_column,
        missing,
        label_column,
        dict(sorted(labels.items())),
        candidates,
        split_column,
        splits,
        split,
        attributes,
        {use.column: use.reason for use in uses if use.role == "left out"},
        found,
        itself,
    )


def _files(path: Path, text: pa.Table, images: ImagesFound, given: str | None) -> tuple[Path, str, int]:
    """The folder that the files are relative to, their column, and how many rows name none of them."""
    names = set(images.files)
    roots = {images.folder: names, images.folder.parent: {f"{images.folder.name}/{name}" for name in names}}
    if given is not None and given not in text.column_names:
        raise UserError(f"--file-column: {path} has no column {given!r}; it has {', '.join(text.column_names)}")
    best: tuple[float, Path, str, int] | None = None
    for column in [given] if given is not None else text.column_names:
        cells = text[column].to_pylist()
        for root, known in roots.items():
            hit = sum(cell in known for cell in cells)
            if hit and (best is None or hit / len(cells) > best[0]):
                best = hit / len(cells), root, column, len(cells) - hit
    if best is None or (given is None and best[0] < MATCHED):
        first = next((cell for column in text.column_names for cell in text[column].to_pylist() if cell), "nothing")
        raise UserError(
            f"no column of {path} names files of {images.folder}: it has {', '.join(text.column_names)} (the first cell: "
            f"{first!r}), the folder {images.files[0]!r}; write the path of each image, with its ending, relative to the folder, "
            "or say which column it is: --file-column"
        )
    return best[1], best[2], best[3]


def _label(path: Path, text: pa.Table, file_column: str, choices: Choices) -> tuple[str | None, tuple[str, ...]]:
    """The column of labels, None where it cannot be told, and which others it may be."""
    given = choices.label_column
    if given is not None:
        if given not in text.column_names:
            meant = did_you_mean(given, text.column_names)
            raise UserError(f"--label: {path} has no column {given!r}{meant}; it has {', '.join(text.column_names)}")
        return given, ()
    others = [name for name in text.column_names if name != file_column and not IDS.fullmatch(name)]
    values = {name: Counter(cell.strip() for cell in text[name].to_pylist() if cell and cell.strip()) for name in others}
    fitting = [name for name in others if 2 <= len(values[name]) <= MOST_CLASSES and len(values[name]) < len(text) / 2]
    of_classes = [name for name in fitting if choices.classes and set(values[name]) <= set(choices.classes)]
    called = [name for name in fitting if name.strip().casefold().replace("_", " ") in LABELS]
    texts = [
        name for name in fitting if yes_or_no(text[name]) is None and not _is_split(values[name]) and not _numbers(values[name])
    ]
    for some in (of_classes, called, texts):
        if len(some) == 1:
            return some[0], tuple(name for name in fitting if name != some[0])
    return None, tuple(fitting)


def _splits(text: pa.Table, taken: set[str | None]) -> tuple[str | None, dict[str, int]]:
    for name in text.column_names:
        counts = Counter(cell.strip() for cell in text[name].to_pylist() if cell and cell.strip())
        if name not in taken and _is_split(counts):
            return name, dict(sorted(counts.items()))
    return None, {}


def _is_split(values: Counter[str]) -> bool:
    return len(values) > 1 and all(split_named(value) for value in values)


def _numbers(values: Sequence[str] | Counter[str]) -> bool:
    return all(re.fullmatch(r"-?\d+\.\d*", value) for value in values)
