"""How numbers, times and lists read in the report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

NOTHING = "–"


def signed(value: float | None, digits: int = 3) -> str:
    """+0.131, −0.042, 0.000; a true minus sign."""
    if value is None:
        return NOTHING
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "−") + text


def points(value: float | None) -> str:
    """A change of a probability in points, with its sign: +23.1, −0.4, 0.0."""
    return signed(None if value is None else 100 * value, 1)


def size_in_points(value: float, digits: int = 1) -> str:
    """The size of a change of a probability in points: 37.2, 0.3, less than 0.1."""
    text = f"{abs(100 * value):.{digits}f}"
    return text if float(text) else f"less than {10.0**-digits:g}"


def points_between(low: float, high: float) -> str:
    """An interval of changes in points: +28.3 to +46.1; where both ends round to nothing, less than 0.1."""
    ends = points(low), points(high)
    return "less than 0.1 points" if ends == ("0.0", "0.0") else " to ".join(ends)


def whole_points(value: float | None) -> str:
    """A change in points for a glance: +37, −4, 0."""
    return signed(None if value is None else 100 * value, 0)


def whole_between(low: float, high: float) -> str:
    """An interval in whole points: 28–46, −3 to +12; of a change that cannot be told from none, "less than 1"."""
    ends = round(100 * low), round(100 * high)
    if ends == (0, 0):
        return "less than 1"
    return f"{ends[0]}–{ends[1]}" if ends[0] > 0 else f"{whole_points(low)} to {whole_points(high)}"


def reason(text: str) -> str:
    """A sentence of the gate, in which what rounds to nothing is said in words."""
    text = re.sub(r"(?<![\d.])[+−-]?0\.0 points( \(95% interval 0\.0 to 0\.0\))?", "less than 0.1 points", text)
    return text.replace("95% interval", "95% confidence")


def capital(text: str) -> str:
    """A sentence with a capital at its start, and nothing else changed."""
    return text[:1].upper() + text[1:]


def number(value: float | None, digits: int = 3) -> str:
    """Up to so many significant digits, without an exponent: 0.05, 97.3, 12,345."""
    if value is None:
        return NOTHING
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    return f"{value:.7f}".rstrip("0") if "e" in text else text.replace("-", "−")


def probability(value: float | None) -> str:
    """Three decimals, and never a rounded 0 or 1: < 0.001, > 0.999."""
    if value is None:
        return NOTHING
    if 0 < value < 0.001:
        return "< 0.001"
    return "> 0.999" if 0.999 < value < 1 else f"{value:.3f}"


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f}%"


def score(value: float | None) -> str:
    """A probability or share in whole percents, and never a rounded 0 or 1: 7%, < 1%, > 99%."""
    if value is None:
        return NOTHING
    if 0 < value < 0.005:
        return "< 1%"
    return "> 99%" if 0.995 <= value < 1 else f"{100 * value:.0f}%"


def count(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def in_words(value: int) -> str:
    """A small number of things: two, nine, 12."""
    return ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"][value] if value < 10 else count(value)


def moment(value: datetime | None) -> str:
    """To the minute, UTC."""
    return NOTHING if value is None else f"{value:%Y-%m-%d %H:%M} UTC"


def duration(seconds: float | None) -> str:
    """0.48 s, 97 s, 12 min, 3.4 h."""
    if seconds is None:
        return NOTHING
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def listed(names: Sequence[str]) -> str:
    """a; a and b; a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nothing"


def slug(text: str) -> str:
    """A word of ours as a CSS class."""
    return text.replace(" ", "-")


def markdown_table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; what would end a cell or start HTML is escaped."""

    def line(cells: Sequence[object]) -> str:
        plain = ("" if cell is None else str(cell) for cell in cells)
        return "| " + " | ".join(text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for text in plain) + " |"

    return "\n".join([line(names), "|" + "---|" * len(names), *map(line, rows)])
