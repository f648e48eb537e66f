"""How numbers, times and lists read in the report."""

from __future__ import annotations

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


def score(value: float) -> str:
    """A probability in whole percents, and never a rounded 0 or 1: 7%, < 1%, > 99%."""
    if 0 < value < 0.005:
        return "< 1%"
    return "> 99%" if 0.995 <= value < 1 else f"{100 * value:.0f}%"


def count(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


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
