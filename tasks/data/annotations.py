"""A user's table of labels and attributes, CSV or Parquet: which images it selects, and what it says of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pyarrow.types as pat
from pydantic import Field

from cfx.errors import UserError
from cfx.types import Config

TRUE, FALSE, MINUS = ("1", "1.0", "true"), ("0", "0.0", "false"), ("-1", "-1.0")
FIXED = 5  # columns of a listing before its attributes
LINES = csv.ParseOptions(newlines_in_values=True)


class Annotations(Config):
    """Which rows of a table are audited, and what its columns mean."""

    table: Path = Field(description="CSV (UTF-8, with a header) or Parquet (.parquet), one row an image")
    file_column: str = Field("file", description="column with the path of each image, relative to `images`")
    label_column: str | None = Field(None, description="column with the class name of each image; empty cells for unknown")
    attribute_columns: tuple[str, ...] | None = Field(
        None, description="yes/no columns: 1/0, true/false or 1/-1, empty cells for unknown; null takes every other such column"
    )
    split_column: str | None = Field(None, description="column that says which split an image belongs to")
    split: str | None = Field(None, description="audit this split only")
    limit: int | None = Field(None, ge=1, description="audit only the first so many rows, in order of their file names")


def listing(config: Annotations) -> pa.Table:
    """The rows selected, sorted by file: row (from 1, header not counted), file, again, split, label, then a_<attribute>.

    `again` marks a row whose file an earlier row has already named. Raises UserError, naming the setting and the way out, for a
    table or column that is not there, a column that is not what it is said to be, or a selection without rows.
    """
    text = _read_text(config.table, _wanted(config))
    absent = pa.nulls(len(text), pa.string())
    rows = pa.table(
        {
            "row": pa.array(range(1, len(text) + 1), pa.int64()),
            "file": text[config.file_column],
            "split": pc.utf8_trim_whitespace(text[config.split_column]) if config.split_column else absent,
            "label": pc.utf8_trim_whitespace(text[config.label_column]) if config.label_column else absent,
            **_attributes(config, text),
        }
    )
    if config.split is not None:
        splits = sorted(split for split in pc.unique(rows["split"]).to_pylist() if split is not None)
        rows = rows.filter(pc.equal(rows["split"], config.split))
        if not len(rows):
            raise UserError(f"split: no row of {config.table} is in split {config.split!r}; its splits are {', '.join(splits)}")
    if not len(rows):
        raise UserError(f"table: {config.table} has a header and no rows; it needs one row an image")
    rows = rows.sort_by([("file", "ascending"), ("row", "ascending")]).slice(0, config.limit)
    files = rows["file"].combine_chunks()
    again = pa.concat_arrays([pa.array([False]), pc.fill_null(pc.equal(files[1:], files[:-1]), False)])
    return rows.add_column(2, "again", again)


def yes_or_no(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """A text column as booleans, or None if it is not one: 1/0, true/false or 1/-1 (CelebA), in any case, empty cells null.

    A column that holds both 0 and -1 is none, because its 0 may mean "unknown".
    """
    text = pc.utf8_lower(pc.utf8_trim_whitespace(column))
    empty = pc.fill_null(pc.equal(text, ""), True)
    seen = set(pc.unique(text.filter(pc.invert(empty))).to_pylist())
    if not (seen <= {*TRUE, *FALSE} or seen <= {*TRUE, *MINUS}):
        return None
    return pc.if_else(empty, pa.scalar(None, pa.bool_()), pc.is_in(text, pa.array(TRUE)))


def _wanted(config: Annotations) -> list[str]:
    """The columns to read, in the table's order. Raises UserError for settings that the table cannot meet."""
    if not config.table.is_file():
        raise UserError(f"table: there is no file {config.table}; give the CSV or Parquet file that lists the images")
    if config.split is not None and config.split_column is None:
        raise UserError(f"split: {config.split!r} is set without split_column; name the column that holds the splits")
    columns = {"file_column": config.file_column, "label_column": config.label_column, "split_column": config.split_column}
    settings = {name: setting for setting, name in columns.items() if name is not None}
    settings |= {name: "attribute_columns" for name in config.attribute_columns or () if name not in settings}
    schema = _schema(config.table)
    for name, setting in settings.items():
        if name not in schema.names:
            raise UserError(f"{setting}: {config.table} has no column {name!r}; it has {', '.join(schema.names)}")
    others = config.attribute_columns is None
    return [field.name for field in schema if field.name in settings or (others and field.name and _is_plain(field.type))]


def _attributes(config: Annotations, text: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Columns a_<attribute>: those configured, or every other yes/no column that says anything."""
    fixed = {config.file_column, config.label_column, config.split_column}
    wanted, found = config.attribute_columns, {}
    for name in [name for name in text.column_names if name not in fixed] if wanted is None else wanted:
        answers = yes_or_no(text[name])
        if answers is None and wanted is not None:
            seen = ", ".join(map(repr, pc.unique(text[name].drop_null()).to_pylist()[:5]))
            raise UserError(f"attribute_columns: {name!r} holds {seen}; an attribute holds 1/0, true/false or 1/-1, or nothing")
        if answers is not None and (wanted is not None or answers.null_count < len(answers)):
            found[f"a_{name}"] = answers
    lower = [name.lower() for name in found]
    if clash := [name.removeprefix("a_") for name in found if lower.count(name.lower()) > 1]:
        raise UserError(f"attributes {clash} differ only in case, which SQL does not tell apart; rename all but one")
    return found


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold yes/no answers; lists, structs and bytes cannot."""
    tests = (pat.is_boolean, pat.is_integer, pat.is_floating, pat.is_string, pat.is_large_string, pat.is_dictionary, pat.is_null)
    return any(test(kind) for test in tests)


def _schema(path: Path) -> pa.Schema:
    try:
        if _is_parquet(path):
            schema = pq.read_schema(path)
        else:
            with csv.open_csv(path, parse_options=LINES) as reader:
                schema = reader.schema
    except pa.ArrowInvalid as error:
        raise UserError(f"table: {path} cannot be read: {error}") from error
    if twice := [name for name in schema.names if schema.names.count(name) > 1]:
        raise UserError(f"table: {path} names the column {twice[0]!r} twice; every column needs its own name")
    return schema


def _read_text(path: Path, columns: list[str]) -> pa.Table:
    """These columns as text, so that a file called 0007 keeps its zeros; an empty cell is null."""
    schema = pa.schema([(name, pa.string()) for name in columns])
    try:
        if _is_parquet(path):
            return pq.read_table(path, columns=columns).select(columns).cast(schema)
        empty = {"strings_can_be_null": True, "quoted_strings_can_be_null": True, "null_values": [""]}
        options = csv.ConvertOptions(column_types=schema, include_columns=columns, **empty)
        return csv.read_csv(path, convert_options=options, parse_options=LINES)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"table: {path} cannot be read: {error}") from error
