"""A user's table of labels and attributes, CSV or Parquet: which images it selects, and what it says of them."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pyarrow.types as pat
from pydantic import Discriminator, Field, PrivateAttr, Tag

from cfx.errors import UserError, did_you_mean
from cfx.targets import shortened
from cfx.types import Config
from tasks.data.broken_files import as_invalid
from tasks.data.drawing import drawn, drawn_for_night
from tasks.data.yes_or_no import why_not, yes_or_no

FIXED = 5  # columns of a listing before its attributes
MOST_LABELS = 8  # that are counted out in words
LINES = csv.ParseOptions(newlines_in_values=True)


class First(Config):
    """The first rows instead of a sample: one class alone where files are sorted by class."""

    first: int = Field(ge=1, description="rows, in order of their file names")


class Nightly(Config):
    """Another sample every night, of a table that grows."""

    nightly: int = Field(ge=2, description="rows a night, drawn by a hash of night and file name, alike in every label")
    kept: float = Field(
        0.5,
        ge=0,
        le=1,
        description="share of them that every night has, drawn as `limit: 256` draws: nights are compared on the same images",
    )
    date: datetime.date = Field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).date(),
        description="the night; default: today, UTC. Audited again, a night has the images that it was begun with",
    )

    _files: tuple[str, ...] | None = PrivateAttr(None)

    def of(self, files: Sequence[str]) -> Nightly:
        """The same night, with the files that were drawn for it."""
        known = self.model_copy()
        known._files = tuple(files)
        return known

    @property
    def files(self) -> tuple[str, ...] | None:
        """What was drawn, once that is settled."""
        return self._files


def _kind_of_limit(value: object) -> str:
    """Which of the ways to limit is meant, so that an error is about that one alone."""
    if isinstance(value, Nightly) or (isinstance(value, dict) and "nightly" in value):
        return "nightly"
    return "first" if isinstance(value, First | dict) else "rows"


Limit = Annotated[
    Annotated[int, Field(ge=1), Tag("rows")] | Annotated[First, Tag("first")] | Annotated[Nightly, Tag("nightly")],
    Discriminator(_kind_of_limit),
]


class Annotations(Config):
    """Which rows of a table are audited, and what its columns mean."""

    table: Path | None = Field(
        None,
        description="CSV (UTF-8, with a header) or Parquet (.parquet), one row an image; without one, every image below "
        "`images`, and nothing is known of any",
    )
    file_column: str = Field("file", description="column with the path of each image, relative to `images`")
    label_column: str | None = Field(None, description="column with the class name of each image; empty cells for unknown")
    attribute_columns: tuple[str, ...] | None = Field(
        None,
        description="columns of yes/no: 1/0, 1/-1, true/false, t/f, yes/no, y/n or on/off; unknown: empty, NaN, NA, N/A, null, "
        "None, ?, -; null takes every other such column",
    )
    split_column: str | None = Field(None, description="column that says which split an image belongs to")
    split: str | None = Field(None, description="audit this split only")
    limit: Limit | None = Field(
        None,
        description="audit a sample of so many rows, drawn by a hash of their file names, alike in every label; `{first: 128}` "
        "takes the first 128 in order of their file names, `{nightly: 256}` another sample every night",
    )

    def image_files(self) -> list[str]:
        """What is listed where there is no table. Raises UserError where nothing says where the images are."""
        raise UserError("table: is required; give the CSV or Parquet file that lists the images")


def listing(config: Annotations) -> pa.Table:
    """The rows selected, sorted by file: row (from 1, header not counted), file, again, split, label, then a_<attribute>.

    `again` marks a row whose file an earlier row has already named; a sample is drawn from the others. Raises UserError, naming
    the setting and the way out, for a table or column that is not there, a column that is not what it is said to be, or a
    selection without rows.
    """
    rows = _every_row(config)
    match config.limit:
        case None:
            return rows
        case First(first=first):
            return rows.slice(0, first)
        case limit:
            once = rows.filter(pc.invert(rows["again"])) if pc.any(rows["again"]).as_py() else rows
            return once if isinstance(limit, int) and limit >= len(once) else once.take(_drawn(once, limit))


def _drawn(rows: pa.Table, limit: int | Nightly) -> list[int]:
    """Which of the rows are in the sample."""
    files = [file or "" for file in rows["file"].to_pylist()]
    labels = [label or None for label in rows["label"].to_pylist()]
    if isinstance(limit, int):
        return drawn(files, labels, limit)
    if limit.files is not None:
        chosen = set(limit.files)
        return [position for position, file in enumerate(files) if file in chosen]
    return drawn_for_night(files, labels, limit.nightly, limit.kept, limit.date.isoformat())


def sample_of(config: Annotations) -> str | None:
    """How the rows selected were chosen from the table, in words; None where all are. Raises UserError as `listing` does."""
    every, rows = _every_row(config), listing(config)
    if len(rows) == len(every):
        return None
    said = f"{len(rows):,} of {len(every):,} images"
    if isinstance(config.limit, Nightly):
        said += f" for the night of {config.limit.date}, {config.limit.kept:.0%} of them the same every night"
    if isinstance(config.limit, First):
        return f"{said}, the first by file name"
    if not any(rows["label"].to_pylist()):
        return f"{said}, drawn by chance"
    before, after = (Counter(label or "none" for label in some["label"].to_pylist()) for some in (every, rows))
    named = sorted(before, key=lambda label: (-before[label], label))
    shown = ", ".join(f"{label} {after[label]:,} of {before[label]:,}" for label in named[:MOST_LABELS])
    more = f", and {len(named) - MOST_LABELS} more" if len(named) > MOST_LABELS else ""
    return f"{said}, drawn by chance, stratified by label: {shown}{more}"


def _every_row(config: Annotations) -> pa.Table:
    """The listing without its limit."""
    text = _text_of(config)
    absent = pa.nulls(len(text), pa.string())
    rows = pa.table(
        {
            "row": pa.array(range(1, len(text) + 1), pa.int64()),
            "file": text[config.file_column],
            "split": pc.utf8_trim_whitespace(text[config.split_column]) if config.split_column else absent,
            "label": pc.utf8_trim_whitespace(text[config.label_column]) if config.label_column else absent,
            **_attributes(config, text, config.table),
        }
    )
    if config.split is not None:
        splits = sorted(split for split in pc.unique(rows["split"]).to_pylist() if split is not None)
        rows = rows.filter(pc.equal(rows["split"], config.split))
        if not len(rows):
            raise UserError(f"split: no row of {config.table} is in split {config.split!r}; its splits are {shortened(splits)}")
    if not len(rows):
        raise UserError(f"table: {config.table} has a header and no rows; it needs one row an image")
    rows = rows.sort_by([("file", "ascending"), ("row", "ascending")])
    files = rows["file"].combine_chunks()
    again = pa.concat_arrays([pa.array([False]), pc.fill_null(pc.equal(files[1:], files[:-1]), False)])
    return rows.add_column(2, "again", again)


def annotations_of(path: Path, config: Annotations) -> pa.Table:
    """What a table says of images that need not be audited: row (from 1), then a_<attribute>.

    Of a table with the configuration's split column the rows of split `train` alone, where there are some. Raises UserError for a
    table that is not there, or says nothing.
    """
    if not path.is_file():
        raise UserError(f"annotations: there is no file {path}; give a CSV or Parquet file of yes/no columns")
    schema = _schema(path)
    if missing := [name for name in config.attribute_columns or () if name not in schema.names]:
        raise UserError(
            f"annotations: {path} has no column {missing[0]!r} of attribute_columns; it has {shortened(schema.names)}"
        )
    text = _read_text(path, [field.name for field in schema if field.name and _is_plain(field.type)])
    found = _attributes(config, text, path)
    if not found:
        raise UserError(f"annotations: {path} has no yes/no column; it has {shortened(schema.names)}")
    rows = pa.table({"row": pa.array(range(1, len(text) + 1), pa.int64()), **found})
    if config.split_column not in text.column_names:
        return rows
    train = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(text[config.split_column]), "train"), False)
    return rows.filter(train) if pc.any(train).as_py() else rows


def text_of(path: Path) -> pa.Table:
    """Every column of a table that may hold names, labels or answers, as text. Raises UserError for what is no table."""
    if not path.is_file():
        raise UserError(f"table: there is no file {path}; give a CSV or Parquet file with one row an image")
    text = _read_text(path, [field.name for field in _schema(path) if field.name and _is_plain(field.type)])
    if not len(text):
        raise UserError(f"table: {path} has a header and no rows; it needs one row an image")
    return text


@dataclass(frozen=True)
class ColumnUse:
    """What becomes of one column of a table, and why."""

    column: str
    role: Literal["file", "label", "split", "attribute", "left out"]
    reason: str


def columns_of(config: Annotations) -> list[ColumnUse]:
    """Every column of the table in its order: what it is used as, or why it is left out. For `cfx check` and the audit's log.

    Counts are of the rows selected. Raises UserError as `listing` does.
    """
    if config.table is None:
        return []
    rows, schema = listing(config), _schema(config.table)
    text = _read_text(config.table, [field.name for field in schema if field.name and _is_plain(field.type)])
    return [_use(config, field, text, rows) for field in schema]


def left_out(uses: list[ColumnUse]) -> str | None:
    """The columns that are left out and why, in one line; None where all are used."""
    unused = [f"{use.column!r} ({use.reason})" for use in uses if use.role == "left out"]
    return f"columns left out: {'; '.join(unused)}" if unused else None


def _use(config: Annotations, field: pa.Field, text: pa.Table, rows: pa.Table) -> ColumnUse:
    name, annotated = field.name, f"a_{field.name}" in rows.column_names
    also = "; an attribute, too" if annotated else ""
    if name == config.file_column:
        return ColumnUse(name, "file", f"names the image of each row{also}")
    if name in (config.label_column, config.split_column):
        role: Literal["label", "split"] = "label" if name == config.label_column else "split"
        known = rows[role].filter(pc.not_equal(rows[role], ""))
        empty = f", {len(rows) - len(known):,} rows without" if len(known) < len(rows) else ""
        return ColumnUse(name, role, f"{len(pc.unique(known)):,} different{empty}{also}")
    if annotated:
        return ColumnUse(name, "attribute", _counted(rows[f"a_{name}"]))
    return ColumnUse(name, "left out", _why_left_out(config, field, text))


def _counted(answers: pa.ChunkedArray) -> str:
    """How often an attribute is yes, no and unknown, and whether that tells anything."""
    counts = {"yes": pc.sum(answers).as_py() or 0, "unknown": answers.null_count}
    counts["no"] = len(answers) - sum(counts.values())
    constant = 0 in (counts["yes"], counts["no"])
    said = ", ".join(f"{word} in {counts[word]:,}" for word in ("yes", "no", "unknown") if counts[word])
    return f"{said}{'; the same wherever it is known, so nothing can be compared' if constant else ''}"


def _why_left_out(config: Annotations, field: pa.Field, text: pa.Table) -> str:
    if not field.name:
        return "it has no name"
    if config.attribute_columns is not None:
        return "not among attribute_columns"
    if field.name not in text.column_names:
        return f"{field.type}, not yes/no"
    return why_not(text[field.name]) or "empty: no cell says yes or no"


def _text_of(config: Annotations) -> pa.Table:
    """The columns that matter as text; without a table, the names of the images alone."""
    if config.table is None:
        return pa.table({config.file_column: pa.array(config.image_files(), pa.string())})
    return _read_text(config.table, _wanted(config, config.table))


def _wanted(config: Annotations, table: Path) -> list[str]:
    """The columns to read, in the table's order. Raises UserError for settings that the table cannot meet."""
    if not table.is_file():
        raise UserError(f"table: there is no file {table}; give the CSV or Parquet file that lists the images")
    if config.split is not None and config.split_column is None:
        raise UserError(f"split: {config.split!r} is set without split_column; name the column that holds the splits")
    columns = {"file_column": config.file_column, "label_column": config.label_column, "split_column": config.split_column}
    settings = {name: setting for setting, name in columns.items() if name is not None}
    settings |= {name: "attribute_columns" for name in config.attribute_columns or () if name not in settings}
    schema = _schema(table)
    for name, setting in settings.items():
        if name not in schema.names:
            meant = did_you_mean(name, schema.names)
            raise UserError(f"{setting}: {table} has no column {name!r}{meant}; it has {shortened(schema.names)}")
    others = config.attribute_columns is None
    return [field.name for field in schema if field.name in settings or (others and field.name and _is_plain(field.type))]


def _attributes(config: Annotations, text: pa.Table, table: Path | None) -> dict[str, pa.ChunkedArray]:
    """Columns a_<attribute>: those configured, or every yes/no column that says anything; one of labels is an attribute, too."""
    fixed = {config.file_column, config.split_column}
    wanted, found = config.attribute_columns, {}
    for name in [name for name in text.column_names if name not in fixed] if wanted is None else wanted:
        answers = yes_or_no(text[name])
        if answers is None and wanted is not None:
            seen = ", ".join(map(repr, pc.unique(text[name].drop_null()).to_pylist()[:5]))
            raise UserError(
                f"attribute_columns: {name!r} holds {seen}; an attribute holds 1/0, true/false, yes/no or 1/-1, or nothing: "
                f"{why_not(text[name])}"
            )
        if answers is not None and (wanted is not None or answers.null_count < len(answers)):
            found[f"a_{name}"] = answers
    lower = [name.lower() for name in found]
    if clash := [name.removeprefix("a_") for name in found if lower.count(name.lower()) > 1]:
        raise UserError(
            f"table: {table}: attributes [{shortened([*map(repr, clash)])}] differ only in case, which SQL does not tell apart; "
            "rename all but one"
        )
    return found


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold yes/no answers; lists, structs and bytes cannot."""
    texts = (pat.is_string, pat.is_large_string, pat.is_string_view, pat.is_dictionary)
    tests = (pat.is_boolean, pat.is_integer, pat.is_floating, pat.is_decimal, pat.is_null, *texts)
    return any(test(kind) for test in tests)


def _schema(path: Path) -> pa.Schema:
    try:
        with as_invalid():
            if _is_parquet(path):
                schema = pq.read_schema(path)
            else:
                with csv.open_csv(path, parse_options=LINES) as reader:
                    schema = reader.schema
            names = Counter(schema.names)
    except pa.ArrowInvalid as error:
        raise UserError(f"table: {path} cannot be read: {error}") from error
    if twice := [name for name, times in names.items() if times > 1]:
        raise UserError(f"table: {path} names the column {twice[0]!r} twice; every column needs its own name")
    return schema


def _read_text(path: Path, columns: list[str]) -> pa.Table:
    """These columns as text, so that a file called 0007 keeps its zeros; an empty cell is null."""
    schema = pa.schema([(name, pa.string()) for name in columns])
    try:
        with as_invalid():
            if _is_parquet(path):
                table = pq.read_table(path, columns=columns).select(columns)
                return pa.table([_text(table[name]) for name in columns], schema=schema)
            empty = {"strings_can_be_null": True, "quoted_strings_can_be_null": True, "null_values": [""]}
            options = csv.ConvertOptions(column_types=schema, include_columns=columns, **empty)
            return csv.read_csv(path, convert_options=options, parse_options=LINES).select(columns)  # none would be all
    except pa.ArrowInvalid as error:
        raise UserError(f"table: {path} cannot be read: {error}") from error


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as text; a NaN is an empty cell, as in the CSV that pandas would write of it."""
    if pat.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pat.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column.cast(pa.string())
