"""The facets beside a gallery: each value with how many explanations have it, given what is chosen in the other facets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import duckdb

from warehouse.explorer.run_table import RunTable
from warehouse.explorer.selection import CHANGES, HELD, NOTHING, REVIEWED, Range, Selection, of_attribute
from warehouse.lens.fetch import fetch
from warehouse.lens.scans import identifier

TITLES = {
    "outcome": "Outcome", "judge": "Judge", "answer": "Prediction", "reviewed": "Reviewed", "label": "Label",
    "source": "Predicted", "target": "Target", "changed": "Attribute changed", "has": "Attribute before", "method": "Method", "seed": "Seed",
    "split": "Split", "attempt": "Attempt", "file": "File name contains",
}  # fmt: skip
NUMBERS = {
    "l1": "Size of the change (L1)",
    "p_target_cf": "P(target) after",
    "p_source": "P(predicted) before",
    "mask_fraction": "Share of pixels masked",
    "crossed": "Attributes changed",
}
BINS = 32
SQUARE = 4  # rows and columns of a table of pairs
FEW = 12  # values that are shown of a facet; the others are behind a disclosure
MOST = 200  # values that are listed at all
ATTRIBUTES = 8  # attributes whose change has a histogram at once: those that change most


class Value(NamedTuple):
    """One value of a facet: `on` where it is chosen, `address` where a click leads."""

    value: str
    label: str
    n: int
    on: bool
    address: str


class Facet(NamedTuple):
    name: str
    title: str
    values: tuple[Value, ...]

    @property
    def most(self) -> int:
        return max((value.n for value in self.values), default=0)


class Pairs(NamedTuple):
    """Two facets at once, label x predicted, predicted x target: every pair that occurs in the run, the most frequent first."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: dict[tuple[str, str], Value]

    @property
    def matrix(self) -> bool:
        """Whether they are shown as a table: few values, which both facets have."""
        return len(self.rows) <= SQUARE and len(self.columns) <= SQUARE and bool(set(self.rows) & set(self.columns))


class AttributeRow(NamedTuple):
    """An attribute: how many have it before, in how many it was added, and removed."""

    attribute: str
    before: Value
    added: Value
    removed: Value


class Histogram(NamedTuple):
    """A column of numbers. all, here: explanations in each of BINS equal bins from low to high, of the run, and as chosen."""

    name: str
    title: str
    low: float
    high: float
    chosen: Range
    all: tuple[int, ...]
    here: tuple[int, ...]
    fields: list[tuple[str, str]]

    def outline(self, counts: tuple[int, ...]) -> str:
        """Bars one unit wide and at most 20 high, as an SVG path."""
        most = max(counts, default=0) or 1
        heights = [max(20 * n / most, 0.8) if n else 0 for n in counts]
        return "".join(f"M{i} 20v-{height:.3g}h1V20z" for i, height in enumerate(heights) if height)


class Chip(NamedTuple):
    """One choice that was made, and the address without it."""

    name: str
    text: str
    address: str


@dataclass(frozen=True)
class Facets:
    first: tuple[Facet, ...]
    pairs: tuple[Pairs, ...]
    attributes: tuple[AttributeRow, ...]
    unchanged: Value | None
    histograms: tuple[Histogram, ...]
    last: tuple[Facet, ...]
    more: tuple[str, ...]  # columns of numbers without a histogram


def facets(table: RunTable, chosen: Selection) -> Facets:
    con = table.cursor()
    many = any(len(table.values.get(name, ())) > 2 for name in ("label", "source", "target"))
    classes = ("label", "source", "target") if many else ()

    def shown(*names: str) -> tuple[Facet, ...]:
        several = [name for name in names if len(table.values.get(name, ())) > 1 or (name == "outcome" and name in table.values)]
        return tuple(_facet(con, table, chosen, name) for name in several)

    attributes, unchanged = _attributes(con, table, chosen)
    numbers = _numbers(con, table, chosen)
    return Facets(
        (*shown("outcome", "judge", "answer"), _reviewed(con, chosen), *shown(*classes)),
        tuple(
            _pairs(con, table, chosen, title, names)
            for title, names in (("Label × predicted", ("label", "source")), ("Predicted → target", ("source", "target")))
            if all(name in table.values for name in names)
        ),
        attributes,
        unchanged,
        tuple(_histogram(con, table, chosen, name) for name in numbers),
        shown("method", "seed", "split", "attempt"),
        tuple(name for name in table.extents if name not in numbers),
    )


def chips(chosen: Selection) -> list[Chip]:
    """Every choice by itself."""
    found = [
        Chip(name, f"{TITLES[name]}: {value_label(name, value)}", chosen.toggled(name, value).address())
        for name, values in chosen.values.items()
        for value in values
    ]
    for name, (low, high) in chosen.ranges.items():
        words = [f"≥ {low:g}" if low is not None else "", f"≤ {high:g}" if high is not None else ""]
        found.append(Chip(f"range:{name}", f"{number_title(name)} {' and '.join(filter(None, words))}", chosen.without(f"range:{name}").address()))
    if chosen.file:
        found.append(Chip("file", f"File name contains “{chosen.file}”", chosen.without("file").address()))
    return found


def ways_out(con: duckdb.DuckDBPyConnection, chosen: Selection) -> list[tuple[Chip, int]]:
    """Of a selection without any explanation: how many there are without each facet, the most first."""
    found = []
    for name in chosen.conditions():
        wider = chosen.without(name)
        title = number_title(name.removeprefix("range:")) if name.startswith("range:") else TITLES[name]
        found.append((Chip(name, title, wider.address()), wider.count(con)))
    return sorted(found, key=lambda way: -way[1])


def value_label(name: str, value: str) -> str:
    """A value as people read it: + glasses, − glasses, with glasses."""
    if value == NOTHING and name == "changed":
        return "none"
    if name not in ("changed", "has"):
        return value
    way, _, attribute = value.partition(":")
    return f"{ {'added': '+', 'removed': '−'}.get(way, way) } {attribute}"


def number_title(name: str) -> str:
    return NUMBERS.get(name, f"Change of {name[2:]}" if name.startswith("d_") else name)


def _facet(con: duckdb.DuckDBPyConnection, table: RunTable, chosen: Selection, name: str) -> Facet:
    where = chosen.where(name)
    sql = f"select {identifier(name)}::varchar as value, count(*)::int as n from shown {where.sql} group by 1"
    counts = {row["value"]: row["n"] for row in fetch(con, sql, **where.values)}
    on = chosen.values.get(name, ())
    known = sorted(table.values[name], key=lambda value: value not in on)[:MOST]  # those that are chosen first, if there are many
    listed = [value for value in table.values[name] if value in known]
    return Facet(name, TITLES[name], tuple(_value(chosen, name, value, counts.get(value, 0)) for value in listed))


def _reviewed(con: duckdb.DuckDBPyConnection, chosen: Selection) -> Facet:
    values = [_value(chosen, "reviewed", value, chosen.without("reviewed").with_values({"reviewed": [value]}).count(con)) for value in REVIEWED]
    return Facet("reviewed", TITLES["reviewed"], tuple(values))


def _pairs(con: duckdb.DuckDBPyConnection, table: RunTable, chosen: Selection, title: str, names: tuple[str, str]) -> Pairs:
    a, b = names
    where = chosen.where(a, b)
    sql = f"""
        select {identifier(a)} as a, {identifier(b)} as b, count(*) filter ({where.sql or 'true'})::int as n
        from shown where {identifier(a)} is not null group by all order by count(*) desc, a, b
    """.replace("filter (where ", "filter (")
    cells = {}
    for row in fetch(con, sql, **where.values):
        pair = (row["a"], row["b"])
        on = all(chosen.values.get(name) == (value,) for name, value in zip(names, pair, strict=True))
        there = chosen.with_values({name: () if on else (value,) for name, value in zip(names, pair, strict=True)})
        cells[pair] = Value(" → ".join(pair), " → ".join(pair), row["n"], on, there.address())
    return Pairs(title, tuple(sorted({row for row, _ in cells})), tuple(sorted({column for _, column in cells})), cells)


def _attributes(con: duckdb.DuckDBPyConnection, table: RunTable, chosen: Selection) -> tuple[tuple[AttributeRow, ...], Value | None]:
    if not table.attributes:
        return (), None
    counts: dict[str, dict[str, int]] = {}
    for facet, ways in (("changed", [*CHANGES]), ("has", [*HELD][:1])):
        values = [f"{way}:{name}" for way in ways for name in table.attributes] + ([NOTHING] if facet == "changed" else [])
        where = chosen.where(facet)
        counted = ", ".join(f"count(*) filter ({of_attribute(facet, value)})::int" for value in values)
        (row,) = con.execute(f"select {counted} from shown {where.sql}", dict(where.values)).fetchall()
        counts[facet] = dict(zip(values, row, strict=True))

    def value(facet: str, name: str) -> Value:
        return _value(chosen, facet, name, counts[facet][name])

    rows = [AttributeRow(name, value("has", f"with:{name}"), value("changed", f"added:{name}"), value("changed", f"removed:{name}")) for name in table.attributes]
    return tuple(rows), value("changed", NOTHING)


def _value(chosen: Selection, name: str, value: str, n: int) -> Value:
    return Value(value, value_label(name, value), n, value in chosen.values.get(name, ()), chosen.toggled(name, value).address())


def _numbers(con: duckdb.DuckDBPyConnection, table: RunTable, chosen: Selection) -> list[str]:
    """The columns that have a histogram: of the change, of the attributes that change most, and those that were asked for."""
    changes = [f"d_{name}" for name in table.attributes if f"d_{name}" in table.extents]
    if len(changes) > ATTRIBUTES:
        sizes = con.execute("select " + ", ".join(f"avg(abs({identifier(name)}))" for name in changes) + " from shown").fetchone() or ()
        order = dict(zip(changes, sizes, strict=True))
        changes = sorted(changes, key=lambda name: -(order[name] or 0))[:ATTRIBUTES]
    wanted = [*NUMBERS, *changes, *chosen.ranges, *chosen.also]
    return [name for name in dict.fromkeys(wanted) if name in table.extents]


def _histogram(con: duckdb.DuckDBPyConnection, table: RunTable, chosen: Selection, name: str) -> Histogram:
    low, high = table.extents[name]
    where = chosen.where(f"range:{name}")
    kept = tuple(_bins(con, name, low, high, where.sql, dict(where.values)))
    everything = table.histograms.get(name)
    if everything is None:
        everything = table.histograms[name] = tuple(_bins(con, name, low, high, "", {}))
    return Histogram(
        name, number_title(name), low, high, chosen.ranges.get(name, Range()), everything, kept, chosen.fields(f"range:{name}", "page")
    )


def _bins(con: duckdb.DuckDBPyConnection, name: str, low: float, high: float, where: str, values: dict[str, Any]) -> list[int]:
    column = identifier(name)
    sql = f"""
        select least(floor(({column}::double - $lowest) / ($highest - $lowest) * {BINS})::int, {BINS - 1}) as bin, count(*)::int as n
        from (from shown {where}) where isfinite({column}::double) group by 1
    """
    counts = {row["bin"]: row["n"] for row in fetch(con, sql, lowest=low, highest=high, **values)}
    return [counts.get(bin_, 0) for bin_ in range(BINS)]
