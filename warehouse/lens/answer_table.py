"""An answer printed for people: a table where it fits, else a block a record; in a pipe plain columns, nothing left out."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from cfx.errors import UserError
from warehouse.lens.printable import printable

if TYPE_CHECKING:
    import pyarrow as pa

CELLS = 3_000_000  # of a table of text, most
PLAN = ["explain_key", "explain_value"]
ROWS, BLOCKS = 100, 10  # that a terminal is shown
_GAP, _LINES, _LISTED = 2, 3, 6  # between columns; of a value in a record; of a list's items
_LONGEST = (120, 90, 70, 55, 40)  # of text in a table, as far as it fits
_HASH, _RUN = re.compile(r"[0-9a-f]{40,64}"), re.compile(r"(.+-[0-9a-f]{4})[0-9a-f]{6}")  # an image's, and a run's id
_KINDS = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"RIFF": "WebP", b"GIF8": "GIF"}


def printed(answer: pa.Table, width: int, rows: int | None = None) -> str:
    """An answer on a terminal of so many columns: a table, or one block a record where a table would be wider.

    Where a table does not fit otherwise, long hashes and run ids are cut as far as they still differ from each other, and long
    texts. Long lists are bounded and say so; so are the rows (default: 100 of a table, 10 blocks; 0: all of them).
    """
    if answer.column_names == PLAN:
        return _plan(answer)
    if not answer.num_columns:
        return "no columns\n"
    if not answer.num_rows:
        return f"no rows\ncolumns: {', '.join(map(printable, answer.column_names))}\n"
    most = ROWS if rows is None else rows or answer.num_rows
    right = [_is_number(field.type) for field in answer.schema]
    for bound in (None, *_LONGEST):
        lines = _table(answer.column_names, [_cells(answer, i, most, bound) for i in range(answer.num_columns)], right)
        if max(map(len, lines)) <= width:
            break
    else:
        most = BLOCKS if rows is None else most
        lines = list(_records(answer, min(most, answer.num_rows), width))
    left = answer.num_rows - most
    if left > 0:
        lines += ["", f"… {left:,} more rows; --rows 0 shows all, --out FILE.csv writes them"]
    return "\n".join(lines) + "\n"


def plain(answer: pa.Table) -> str:
    """An answer for a pipe or a file: aligned columns, whole values, one line a row, and of an image its kind and size. Raises
    UserError for more than CELLS cells."""
    if answer.column_names == PLAN:
        return _plan(answer)
    if answer.num_rows * answer.num_columns > CELLS:
        raise UserError(
            f"the answer has {answer.num_rows:,} rows of {answer.num_columns} columns, more than a table is for; "
            "--format csv, json or parquet has all of it"
        )
    texts = [
        _numbers(c.to_pylist()) if _is_float(c.type) else [_one_line(_whole(v)) for v in c.to_pylist()] for c in answer.columns
    ]
    right = [_is_number(field.type) for field in answer.schema]
    head, _, *lines = _table(answer.column_names, texts, right)
    return "\n".join([head, *lines]) + "\n"


def _plan(answer: pa.Table) -> str:
    """What EXPLAIN answers is drawn over many lines already."""
    return "".join(f"{printable(text).rstrip()}\n" for text in answer["explain_value"].to_pylist())


def _table(names: Sequence[str], texts: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """A head, a rule, and one line a row."""
    names = [printable(name) for name in names]
    widths = [max(len(name), *map(len, cells), 1) for name, cells in zip(names, texts, strict=True)]

    def line(cells: Sequence[str]) -> str:
        placed = (cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(cells, widths, right, strict=True))
        return (" " * _GAP).join(placed).rstrip()

    return [line(names), (" " * _GAP).join("─" * w for w in widths), *map(line, zip(*texts, strict=True))]


def _records(answer: pa.Table, rows: int, width: int) -> Iterator[str]:
    """One block a row: a line a column, long values over a few lines."""
    names = [printable(name) for name in answer.column_names]
    room = max(map(len, names))
    texts = [_in_record(name, column, rows) for name, column in zip(answer.column_names, answer.columns, strict=True)]
    for i in range(rows):
        yield from ["", f"── {i + 1} of {answer.num_rows:,} ".ljust(min(width, 60), "─")][i == 0 :]
        for name, cells in zip(names, texts, strict=True):
            lines = textwrap.wrap(cells[i], max(width - room - _GAP, 20)) or [""]
            if len(lines) > _LINES:
                lines = [*lines[: _LINES - 1], f"… {len(cells[i]):,} characters"]
            yield f"{name.ljust(room)}{' ' * _GAP}{lines[0]}".rstrip()
            yield from (" " * (room + _GAP) + line for line in lines[1:])


def _in_record(name: str, column: pa.ChunkedArray, rows: int) -> list[str]:
    """The first cells of a column as text that need not be aligned."""
    texts = [_one_line(_text(value)) for value in column.slice(0, rows).to_pylist()]
    if name in ("config", "fingerprints", "packages"):
        texts = [f"{text}: see run_settings" if text.startswith("JSON, ") else text for text in texts]
    return _distinct(texts, column.unique().to_pylist()) if _hashes(texts) else texts


def _hashes(texts: Sequence[str]) -> bool:
    return any(texts) and all(_HASH.fullmatch(text) for text in texts if text)


def _cells(answer: pa.Table, i: int, rows: int, bound: int | None) -> list[str]:
    """The first cells of a column as text. bound: the characters that a table has room for; None: all."""
    column = answer.column(i)
    if _is_float(column.type):
        return _numbers(column.slice(0, rows).to_pylist())
    texts = [_one_line(_text(value)) for value in column.slice(0, rows).to_pylist()]
    if bound is None or not any(texts):
        return texts
    if _hashes(texts):
        return _distinct(texts, column.unique().to_pylist())
    if all(_RUN.fullmatch(text) for text in texts if text):
        cut = [_RUN.sub(r"\1…", text) for text in texts]
        return cut if len(set(cut)) == len(set(texts)) else texts
    return [text if len(text) <= bound else text[: bound - 1] + "…" for text in texts]


def _distinct(texts: Sequence[str], every: Sequence[str | None]) -> list[str]:
    """Hashes cut to as many characters, at least 8, as tell all those of the answer apart."""
    different = {text for text in every if text}
    length = next(n for n in range(8, 65) if n == 64 or len({text[:n] for text in different}) == len(different))
    return [text[:length] + "…" if len(text) > length else text for text in texts]


def _numbers(values: Sequence[float | None]) -> list[str]:
    """Floats of a column with the same decimals: four digits of the largest, up to four decimals for smaller ones.

    No more than they need, and six at most; what would be 0 keeps two digits.
    """
    sizes = [abs(value) for value in values if value is not None and math.isfinite(value) and value]
    if sizes and not 1e-6 < max(sizes) < 1e9:
        return ["" if value is None else f"{value:.6g}" for value in values]
    decimals = 0
    if sizes:
        wanted = max(_digits(max(sizes)), min(_digits(min(sizes)), 4))
        decimals = min(wanted, max(map(_needed, sizes)))

    def text(value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return "" if value is None else str(value)
        said = f"{value:.{decimals}f}"
        return said if float(said) or not value else f"{value:.2g}"

    return [text(value) for value in values]


def _digits(value: float) -> int:
    """The decimals that show a number's first four digits, 0 to 6."""
    return min(max(0, 3 - math.floor(math.log10(value))), 6)


def _needed(value: float) -> int:
    """The decimals that show a number exactly, at most six."""
    return next((n for n in range(6) if float(f"{value:.{n}f}") == value), 6)


def _whole(value: object) -> str:
    """A value with nothing left out but an image's bytes."""
    match value:
        case str():
            return value
        case list():
            return f"[{', '.join(map(_whole, value))}]"
    return _text(value)


def _text(value: object) -> str:
    """A value that is no column of floats: bytes by kind and size, JSON whole, lists and structs in a few items."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.4g}"
        case bytes():
            return _bytes(value)
        case list():
            listed = ", ".join(map(_text, value[:_LISTED]))
            return f"[{listed}]" if len(value) <= _LISTED else f"[{listed}, … {len(value):,} in all]"
        case dict():
            return "{" + ", ".join(f"{key}: {_text(inner)}" for key, inner in value.items()) + "}"
        case str() if len(value) > 40 and value[0] == "{" and value[-1] == "}":
            return f"JSON, {_size(len(value))}"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    return str(value)


def _bytes(value: bytes) -> str:
    kind = next((kind for head, kind in _KINDS.items() if value.startswith(head)), "bytes")
    return f"{kind}, {_size(len(value))}"


def _size(n: int) -> str:
    """Bytes in a unit that people read: 2.1 kB."""
    return f"{n} B" if n < 1000 else f"{n / 1000:.1f} kB" if n < 1_000_000 else f"{n / 1_000_000:.1f} MB"


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def _is_float(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return types.is_floating(kind)
