"""The facets beside a gallery: each value with how many explanations have it, given what is chosen in the other facets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from warehouse.explorer.run_table import RunTable
from warehouse.explorer.selection import CHANGES, NOTHING, REVIEWED, Condition, Range, Selection, of_attribute
from warehouse.lens.scans import identifier

TITLES = {
    "outcome": "Outcome",
    "judge": "Judge",
    "answer": "Prediction",
    "reviewed": "Reviewed",
    "label": "Label",
    "source": "Predicted",
    "target": "Target",
    "changed": "Attribute changed",
    "has": "Attribute before",
    "method": "Method",
    "seed": "Seed",
    "split": "Split",
    "attempt": "Attempt",
    "way": "Drawn by",
    "file": "File name",
}
NUMBERS = {
    "l1": "Size of the change (L1)",
    "p_target_cf": "P(target) after",
    "p_source": "P(predicted) before",
    "mask_fraction": "Share of pixels masked",
    "crossed": "Attributes changed",
}
FAMILIES = {"d": "Change of {}", "before": "{} before", "after": "{} after", "m": "{}"}  # columns of attributes and properties
SIGNS = {"added": "+", "removed": "−"}
BINS = 32
SQUARE = 4  # rows and columns of a table of pairs
FEW = 12  # values that are shown of a facet; the others are behind a disclosure
MOST = 200  # values that are listed at all
ATTRIBUTES = 8  # attributes whose change has a histogram at once: those that change most often


class Value(NamedTuple):
    """One value of a facet: n, how many have it; `on`, whether it is chosen; `address`, where a click leads."""

    label: str
    n: int
    on: bool
    address: str


class Facet(NamedTuple):
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
    def most(self) -> int:
        return max((value.n for value in self.cells.values()), default=0)

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

    @property
    def on(self) -> bool:
        return self.before.on or self.added.on or self.removed.on


class Histogram(NamedTuple):
    """A column of numbers. all, here: explanations in each of BINS equal bins from low to high, of the run, and as chosen.

    fields: what a form about it keeps of the address.
    """

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

    def shaded(self) -> tuple[float, float] | None:
        """Where the chosen range begins and how wide it is, in bins; None where there is none."""
        if self.chosen == Range():
            return None
        ends = [bound if bound is not None else end for bound, end in zip(self.chosen, (self.low, self.high), strict=True)]
        left, right = (BINS * (min(max(end, self.low), self.high) - self.low) / (self.high - self.low) for end in ends)
        return round(left, 3), round(right - left, 3)


class Chip(NamedTuple):
    """One choice that was made, and the address without it."""

    text: str
    address: str


class WayOut(NamedTuple):
    """What an empty selection would have without one facet."""

    title: str
    address: str
    n: int


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
    """Everything that stands beside a gallery of this selection."""
    classes = ("label", "source", "target")
    many = any(len(table.values.get(name, ())) > 2 for name in classes)
    pairs = (("Label × predicted", ("label", "source")), ("Predicted → target", ("source", "target")))
    single = _listed(table, chosen, *classes) if many else ()
    numbers = _numbers(table, chosen)
    return Facets(
        (*_listed(table, chosen, "outcome", "judge", "answer"), _reviewed(table, chosen), *single),
        tuple(_pairs(table, chosen, title, *names) for title, names in pairs if all(name in table.values for name in names)),
        _attributes(table, chosen),
        _of_attributes(table, chosen, "changed", [NOTHING])[NOTHING] if table.attributes else None,
        tuple(_histogram(table, chosen, name) for name in numbers),
        _listed(table, chosen, "method", "seed", "split", "attempt", "way"),
        tuple(name for name in table.extents if name not in numbers),
    )


def chips(table: RunTable, chosen: Selection) -> list[Chip]:
    """Every choice by itself."""
    found = [
        Chip(f"{TITLES[name]}: {value_label(table, name, value)}", chosen.toggled(name, value).address())
        for name, values in chosen.values.items()
        for value in values
    ]
    for name, bounds in chosen.ranges.items():
        words = [f"{sign} {bound:g}" for sign, bound in zip("≥≤", bounds, strict=True) if bound is not None]
        found.append(Chip(f"{number_title(table, name)} {' and '.join(words)}", chosen.without(f"range:{name}").address()))
    if chosen.file:
        found.append(Chip(f"File name contains “{chosen.file}”", chosen.without("file").address()))
    return found


def ways_out(table: RunTable, chosen: Selection) -> list[WayOut]:
    """Of a selection without any explanation: how many there are without each facet, the most first."""
    found = []
    for name in chosen.conditions():
        wider = chosen.without(name)
        title = number_title(table, name.removeprefix("range:")) if name.startswith("range:") else TITLES[name]
        found.append(WayOut(title, wider.address(), wider.count(table)))
    return sorted(found, key=lambda way: -way.n)


def value_label(table: RunTable, name: str, value: str) -> str:
    """A value as people read it: + glasses, − glasses, with glasses; classes and attributes by the run's labels."""
    if name in ("label", "source", "target"):
        return table.names(value)
    if name not in ("changed", "has"):
        return value
    way, _, attribute = value.partition(":")
    return f"{SIGNS.get(way, way)} {table.names(attribute)}" if attribute else "none"


def number_title(table: RunTable, name: str) -> str:
    """A column of numbers as people read it."""
    family, _, of = name.partition("_")
    if name in NUMBERS or family not in FAMILIES or not of:
        return NUMBERS.get(name, name)
    kind = "property" if family == "m" else "attribute"
    return FAMILIES[family].format(table.names.row({"kind": kind, "name": of})["name"])


def _listed(table: RunTable, chosen: Selection, *names: str) -> tuple[Facet, ...]:
    """Those of these facets that have more than one value in the run."""
    return tuple(_facet(table, chosen, name) for name in names if len(table.values.get(name, ())) > 1)


def _facet(table: RunTable, chosen: Selection, name: str) -> Facet:
    where = chosen.where(name)
    sql = f"select {identifier(name)}::varchar as value, count(*)::int as n from shown where {where.sql} group by 1"
    counts = {row["value"]: row["n"] for row in table.fetch(sql, **where.values)}
    known = list(table.values[name])
    listed = known[:MOST] + [value for value in known[MOST:] if value in chosen.values.get(name, ())]
    return Facet(TITLES[name], tuple(_value(table, chosen, name, value, counts.get(value, 0)) for value in listed))


def _reviewed(table: RunTable, chosen: Selection) -> Facet:
    counts = {value: chosen.with_values({"reviewed": [value]}).count(table) for value in REVIEWED}
    return Facet(TITLES["reviewed"], tuple(_value(table, chosen, "reviewed", value, n) for value, n in counts.items()))


def _pairs(table: RunTable, chosen: Selection, title: str, a: str, b: str) -> Pairs:
    where = chosen.where(a, b)
    sql = f"""
        select {identifier(a)} as a, {identifier(b)} as b, count(*) filter ({where.sql})::int as n
        from shown where {identifier(a)} is not null group by all order by count(*) desc, a, b
    """
    cells = {}
    for row in table.fetch(sql, **where.values):
        on = chosen.values.get(a) == (row["a"],) and chosen.values.get(b) == (row["b"],)
        there = chosen.with_values({a: [] if on else [row["a"]], b: [] if on else [row["b"]]})
        label = " → ".join(value_label(table, name, row[key]) for key, name in (("a", a), ("b", b)))
        cells[row["a"], row["b"]] = Value(label, row["n"], on, there.address())
    return Pairs(title, tuple(sorted({row for row, _ in cells})), tuple(sorted({column for _, column in cells})), cells)


def _attributes(table: RunTable, chosen: Selection) -> tuple[AttributeRow, ...]:
    if not table.attributes:
        return ()
    before = _of_attributes(table, chosen, "has", [f"with:{name}" for name in table.attributes])
    changed = _of_attributes(table, chosen, "changed", [f"{way}:{name}" for way in CHANGES for name in table.attributes])
    return tuple(
        AttributeRow(name, before[f"with:{name}"], changed[f"added:{name}"], changed[f"removed:{name}"])
        for name in table.attributes
    )


def _of_attributes(table: RunTable, chosen: Selection, facet: str, values: list[str]) -> dict[str, Value]:
    """Values of `changed` or `has`; an explanation may have several."""
    where = chosen.where(facet)
    counted = ", ".join(f"count(*) filter ({of_attribute(facet, value)})::int as n{i}" for i, value in enumerate(values))
    (row,) = table.fetch(f"select {counted} from shown where {where.sql}", **where.values)
    return {value: _value(table, chosen, facet, value, row[f"n{i}"]) for i, value in enumerate(values)}


def _value(table: RunTable, chosen: Selection, name: str, value: str, n: int) -> Value:
    return Value(value_label(table, name, value), n, value in chosen.values.get(name, ()), chosen.toggled(name, value).address())


def _numbers(table: RunTable, chosen: Selection) -> list[str]:
    """The columns that have a histogram: of the change, of the attributes that change most, and those that were asked for."""
    changes = [f"d_{name}" for name in table.attributes if f"d_{name}" in table.extents][:ATTRIBUTES]
    wanted = [*NUMBERS, *changes, *chosen.ranges, *chosen.also]
    return [name for name in dict.fromkeys(wanted) if name in table.extents]


def _histogram(table: RunTable, chosen: Selection, name: str) -> Histogram:
    low, high = table.extents[name]
    if name not in table.histograms:
        table.histograms[name] = _bins(table, name, Condition("true"))
    here = _bins(table, name, chosen.where(f"range:{name}"))
    fields = chosen.fields(f"range:{name}", "page")
    bounds, title = chosen.ranges.get(name, Range()), number_title(table, name)
    return Histogram(name, title, low, high, bounds, table.histograms[name], here, fields)


def _bins(table: RunTable, name: str, where: Condition) -> tuple[int, ...]:
    """Explanations in each bin of a column's range in the run."""
    low, high = table.extents[name]
    column = f"{identifier(name)}::double"
    sql = f"""
        select least(floor(({column} - $lowest) / ($highest - $lowest) * {BINS})::int, {BINS - 1}) as bin, count(*)::int as n
        from shown where isfinite({column}) and ({where.sql}) group by 1
    """
    counts = {row["bin"]: row["n"] for row in table.fetch(sql, lowest=low, highest=high, **where.values)}
    return tuple(counts.get(number, 0) for number in range(BINS))
