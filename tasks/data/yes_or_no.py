"""What counts as yes, as no and as unknown in a cell of a user's table, in whichever notation a column keeps to."""

from __future__ import annotations

import math

import pyarrow as pa
import pyarrow.compute as pc

# A column keeps to one notation, in any case; numbers in any writing: 1, 1.0, 1.00.
NOTATIONS = (
    ({"1", "true", "t"}, {"0", "-1", "false", "f"}),  # -1 as CelebA has it
    ({"yes", "y"}, {"no", "n"}),
    ({"on"}, {"off"}),
)
UNKNOWN = {"", "nan", "na", "n/a", "#n/a", "<na>", "null", "none", "?", "-", "unknown"}
MAYBE_NO = {"none", "-"}  # unknown beside a no; beside yes alone they may be the column's no
MOST = 200  # different cells: with more a column is not yes/no, whatever they are
SHOWN = 5


def yes_or_no(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """A text column as booleans, null where unknown, or None if it is not one: see `why_not`.

    Yes and no are 1/0, 1/-1 (CelebA), true/false, t/f, yes/no, y/n or on/off. Unknown are empty cells, NaN, NA, N/A, #N/A,
    <NA>, null, None, ?, - and unknown. All in any case, spaces around them left out.
    """
    if why_not(column) is not None:
        return None
    cells = _trimmed(column)
    distinct = {cell: _plain(cell) for cell in pc.unique(cells).to_pylist()}
    yes, no = ([cell for cell, plain in distinct.items() if any(plain in words[side] for words in NOTATIONS)] for side in (0, 1))
    known = pc.is_in(cells, pa.array([*yes, *no], pa.string()))
    return pc.if_else(known, pc.is_in(cells, pa.array(yes, pa.string())), pa.scalar(None, pa.bool_()))


def why_not(column: pa.ChunkedArray) -> str | None:
    """Why a text column is not yes/no, in a few words; None if it is. A column of unknown cells alone is one that says nothing.

    0 and -1 in one column are ambiguous, because the 0 may mean unknown; so are `none` and `-` where no other cell says no, and
    several notations in one column.
    """
    distinct = pc.unique(_trimmed(column)).to_pylist()
    words = {plain for plain in map(_plain, distinct[: MOST + 1]) if plain not in UNKNOWN}
    if len(distinct) > MOST or not any(words <= yes | no for yes, no in NOTATIONS):
        several = len(distinct) <= MOST and words <= {word for sides in NOTATIONS for side in sides for word in side}
        if several:
            return f"yes and no in several notations ({', '.join(sorted(words))}); keep to one"
        return _described([cell for cell in distinct if cell not in UNKNOWN])
    if {"0", "-1"} <= words:
        return "holds both 0 and -1, and 0 may mean unknown; write 1 and -1, or 1 and 0, and leave unknown cells empty"
    doubtful = sorted(MAYBE_NO & set(distinct))
    if doubtful and words and not any(words & no for _, no in NOTATIONS):
        return f"{doubtful[0]!r} beside {sorted(words)[0]!r} may mean no or unknown; write no, or leave unknown cells empty"
    return None


def _trimmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.utf8_lower(pc.utf8_trim_whitespace(column)), "")


def _plain(cell: str) -> str:
    """1.00 as 1, -1.0 as -1, 0e0 as 0; other cells as they are."""
    number = _number(cell)
    return str(int(number)) if number in (1, 0, -1) else cell


def _number(cell: str) -> float:
    """A cell as a number, NaN for what is none."""
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _described(cells: list[str]) -> str:
    """What a column holds that is not yes/no: how many values, of which kind, and which if they are few."""
    numbers = [_number(cell) for cell in cells]
    count = f"{len(cells):,} value{'s' if len(cells) > 1 else ''}"
    if not any(map(math.isnan, numbers)):
        which = ", ".join(f"{number:g}" for number in sorted(numbers)) if len(cells) <= SHOWN else None
        return f"numbers, not yes/no: {count}, {which or f'{min(numbers):g} to {max(numbers):g}'}"
    return f"text, not yes/no: {count}{', ' + ', '.join(map(repr, sorted(cells))) if len(cells) <= SHOWN else ''}"
