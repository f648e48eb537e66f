"""Which explanations are chosen and in which order, as an address says it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from urllib.parse import urlencode

from warehouse.explorer.reviews import MARKS
from warehouse.explorer.run_table import FACETS, RunTable
from warehouse.lens.fetch import Row
from warehouse.lens.scans import identifier

UNMARKED = "not reviewed"
REVIEWED = (*MARKS, UNMARKED)
CHANGES = {"added": "{} = 1", "removed": "{} = -1"}  # of an attribute: of its c_ column
HELD = {"with": "{} > .5", "without": "{} <= .5"}  # of the image as it was: of its before_ column
NOTHING = "nothing"
VIEWS = ("hover", "pairs", "difference")
SORT = "l1"
LAST = 10**9  # page of a gallery, whatever an address says
BOUNDS = {"min": "at least", "max": "at most"}
SETTINGS = ("file", "sort", "down", "view", "also", "page")
USUAL = {"file": "", "sort": SORT, "down": "0", "view": VIEWS[0], "page": "0"}  # left out of an address


class Condition(NamedTuple):
    """A condition on a row of `shown`, and the values of its parameters."""

    sql: str
    values: Mapping[str, object] = {}


class Range(NamedTuple):
    low: float | None = None
    high: float | None = None


class Neighbours(NamedTuple):
    """Where an explanation is in a selection, from 1, of how many; None where it is not in it. What comes before and after it."""

    place: int | None
    total: int
    before: Row | None
    after: Row | None


@dataclass(frozen=True)
class Selection:
    """values: by facet, any of which; ranges: by column. `problems` are what an address says that cannot be, each left out."""

    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    file: str = ""
    sort: str = SORT
    down: bool = False
    view: str = VIEWS[0]
    also: tuple[str, ...] = ()
    page: int = 0
    problems: tuple[str, ...] = ()

    def conditions(self) -> dict[str, Condition]:
        """What a row has to be, by facet; a range's name begins with `range:`."""
        found = {name: _any_of(name, chosen) for name, chosen in self.values.items()}
        found |= {f"range:{name}": _between(name, bounds) for name, bounds in self.ranges.items()}
        if self.file:
            found["file"] = Condition("contains(lower(path), lower($file))", {"file": self.file})
        return found

    def where(self, *without: str) -> Condition:
        """All conditions together but those of these facets; `true` where there is none."""
        kept = [condition for name, condition in self.conditions().items() if name not in without]
        values = {key: value for condition in kept for key, value in condition.values.items()}
        return Condition(" and ".join(f"({condition.sql})" for condition in kept) or "true", values)

    def fields(self, *without: str) -> list[tuple[str, str]]:
        """What the address holds, but for these facets and settings."""
        found = [(name, value) for name, chosen in self.values.items() for value in chosen]
        for name, bounds in self.ranges.items():
            if f"range:{name}" not in without:
                found += [
                    (f"{word}.{name}", plain(value)) for word, value in zip(BOUNDS, bounds, strict=True) if value is not None
                ]
        found += [("file", self.file), ("sort", self.sort), ("down", str(int(self.down))), ("view", self.view)]
        found += [*(("also", name) for name in self.also), ("page", str(self.page))]
        return [(name, value) for name, value in found if name not in without and value != USUAL.get(name)]

    def address(self) -> str:
        """The query part of this selection's address, with its question mark."""
        return "?" + urlencode(self.fields())

    def upside_down(self) -> Selection:
        """The same, from the other end."""
        return replace(self, down=not self.down, page=0, problems=())

    def with_values(self, chosen: Mapping[str, Iterable[str]]) -> Selection:
        """With these values of some facets instead; an empty one is left out. From the first page on."""
        values = {**self.values, **{name: tuple(new) for name, new in chosen.items()}}
        return replace(self, values={name: kept for name, kept in values.items() if kept}, page=0, problems=())

    def toggled(self, name: str, value: str) -> Selection:
        """With this value of a facet, or without it where it is chosen already."""
        now = self.values.get(name, ())
        return self.with_values({name: [other for other in now if other != value] if value in now else [*now, value]})

    def without(self, name: str) -> Selection:
        """Without a facet, a range or the part of a file name."""
        values = {key: kept for key, kept in self.values.items() if key != name}
        ranges = {key: kept for key, kept in self.ranges.items() if f"range:{key}" != name}
        return replace(self, values=values, ranges=ranges, file="" if name == "file" else self.file, page=0, problems=())

    def cleared(self) -> Selection:
        """All explanations, in the same order and view."""
        return replace(self, values={}, ranges={}, file="", page=0, problems=())

    def at(self, page: int) -> Selection:
        """The same on another page."""
        return replace(self, page=page, problems=())

    def viewed(self, view: str) -> Selection:
        """The same, seen as hover, pairs or difference."""
        return replace(self, view=view, problems=())

    def count(self, table: RunTable) -> int:
        """How many explanations are chosen."""
        where = self.where()
        (found,) = table.fetch(f"select count(*)::int as n from shown where {where.sql}", **where.values)
        return int(found["n"])

    def rows(self, table: RunTable, length: int) -> list[Row]:
        """The rows of one page."""
        where = self.where()
        page = f"limit {length} offset {length * self.page}"
        return table.fetch(f"from shown where {where.sql} {self._order()} {page}", **where.values)

    def around(self, table: RunTable, explanation: Row) -> Neighbours:
        """What lies before and after an explanation."""
        where = self.where()
        sql = f"""
            with ordered as (
                select image_id, method, seed, row_number() over ({self._order()}) as place from shown where {where.sql}
            ), here as (
                select place from ordered where (image_id, method, seed) = ($image_id, $method, $seed)
            )
            select *, (select count(*) from ordered)::int as n, (select place from here) as here
            from ordered where abs(place - (select coalesce(any_value(place), 0) from here)) <= 1
            order by place
        """
        keys = {key: explanation[key] for key in ("image_id", "method", "seed")}
        rows = table.fetch(sql, **where.values, **keys)
        if not rows:
            return Neighbours(None, 0, None, None)
        here, near = rows[0]["here"], {row["place"]: row for row in rows}
        return Neighbours(here, rows[0]["n"], near.get((here or 0) - 1), near.get((here or 0) + 1))

    def _order(self) -> str:
        return f"order by {identifier(self.sort)} {'desc' if self.down else 'asc'} nulls last, image_id, method, seed"


def selection_of(address: Iterable[tuple[str, str]], table: RunTable) -> Selection:
    """What an address chooses of a run's explanations; what it says that cannot be is a problem, and left out."""
    chosen = Selection(sort=SORT if SORT in table.columns or not table.columns else table.columns[0])
    values: dict[str, tuple[str, ...]] = {}
    problems: list[str] = []
    for name, text in address:
        if not text:
            continue
        bound, _, column = name.partition(".")
        if bound in BOUNDS and column:
            bounds, problem = _bound(chosen.ranges.get(column, Range()), bound, column, text, table)
            chosen = replace(chosen, ranges={**chosen.ranges, column: bounds} if bounds else chosen.ranges)
        elif name in SETTINGS:
            chosen, problem = _set(chosen, name, text, table)
        else:
            problem = _unknown(name, text, table)
            if not problem and text not in values.get(name, ()):
                values[name] = (*values.get(name, ()), text)
        problems += [problem] if problem else []
    turned = {name for name, (low, high) in chosen.ranges.items() if low is not None and high is not None and low > high}
    problems += [
        f"{name}: nothing is at least the larger number and at most the smaller; exchange the two" for name in sorted(turned)
    ]
    ranges = {name: bounds for name, bounds in chosen.ranges.items() if name not in turned}
    return replace(chosen, values=values, ranges=ranges, problems=tuple(problems))


def values_of(table: RunTable) -> dict[str, tuple[str, ...]]:
    """The facets of a run that have values, and these."""
    found = {name: tuple(values) for name, values in table.values.items()}
    if table.attributes:
        found["changed"] = (*(f"{way}:{name}" for way in CHANGES for name in table.attributes), NOTHING)
        found["has"] = tuple(f"{way}:{name}" for way in HELD for name in table.attributes)
    return found | {"reviewed": REVIEWED}


def _unknown(name: str, text: str, table: RunTable) -> str:
    """What is wrong with a value of a facet; nothing: no words."""
    known = values_of(table)
    if name not in known:
        return (
            f"there is no facet {name!r}; there are {', '.join([*known, *SETTINGS])}, and min.… and max.… of a column of numbers"
        )
    return "" if text in known[name] else f"{name}: {text!r} does not occur in this run; there are {_listed(known[name])}"


def _bound(bounds: Range, bound: str, column: str, text: str, table: RunTable) -> tuple[Range | None, str]:
    """A range with one more bound, or what is wrong with it."""
    if column not in table.extents:
        return None, f"{bound}.{column}: there is no such number; there are {_listed(tuple(table.extents))}"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        with_point = text.replace(",", ".")
        way_out = with_point if _is_number(with_point) else "one with a point, such as 0.5"
        return None, f"{column}, {BOUNDS[bound]}: {text!r} is not a number; write {way_out}"
    return bounds._replace(low=value) if bound == "min" else bounds._replace(high=value), ""


def _set(chosen: Selection, name: str, text: str, table: RunTable) -> tuple[Selection, str]:
    """A selection with one setting, or what is wrong with it."""
    if name == "file":
        return replace(chosen, file=text), ""
    if name in ("sort", "also"):
        known = table.columns if name == "sort" else tuple(table.extents)
        if text not in known:
            return chosen, f"{name}: there is no column {text!r}; there are {_listed(known)}"
        return replace(chosen, sort=text) if name == "sort" else replace(chosen, also=(*chosen.also, text)), ""
    if name == "view":
        return (replace(chosen, view=text), "") if text in VIEWS else (chosen, f"view: {text!r} is none of {', '.join(VIEWS)}")
    if name == "down":
        return (replace(chosen, down=text == "1"), "") if text in ("0", "1") else (chosen, f"down: {text!r} is neither 0 nor 1")
    if not (text.isascii() and text.isdecimal()):
        return chosen, f"page: {text!r} is not the number of a page"
    return replace(chosen, page=min(int(text[:12]), LAST)), ""


def _any_of(name: str, chosen: Sequence[str]) -> Condition:
    """One of these values of a facet."""
    if name in FACETS:
        values = {f"{name}_{i}": value for i, value in enumerate(chosen)}
        return Condition(f"{identifier(name)}::varchar in ({', '.join(f'${key}' for key in values)})", values)
    if name == "reviewed":
        keys = "(image_id, method, seed)"
        marked = f"{keys} in (select {keys} from marks where image_id is not null"
        values = {f"mark_{i}": value for i, value in enumerate(chosen) if value != UNMARKED}
        parts = [f"{marked} and mark = ${key})" for key in values] + [f"not {marked})"] * (UNMARKED in chosen)
        return Condition(" or ".join(parts), values)
    return Condition(" or ".join(of_attribute(name, value) for value in chosen))


def of_attribute(name: str, value: str) -> str:
    """The condition of a value of `changed` or `has`, such as added:glasses."""
    if value == NOTHING:
        return "crossed = 0"
    way, _, attribute = value.partition(":")
    prefix, ways = ("c_", CHANGES) if name == "changed" else ("before_", HELD)
    return ways[way].format(identifier(prefix + attribute))


def _between(column: str, bounds: Range) -> Condition:
    values = {f"{word}_{column.encode().hex()}": value for word, value in zip(BOUNDS, bounds, strict=True) if value is not None}
    signs = {"min": ">=", "max": "<="}
    return Condition(" and ".join(f"{identifier(column)} {signs[key[:3]]} ${key}" for key in values), values)


def _listed(known: Sequence[str]) -> str:
    return ", ".join(known[:40]) + (f" and {len(known) - 40} others" if len(known) > 40 else "")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def plain(value: float) -> str:
    """A number as people write it: 1, not 1.0."""
    return repr(value).removesuffix(".0")
