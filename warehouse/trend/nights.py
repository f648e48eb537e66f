"""The nights of an audit: which runs are compared, and what is read of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from cfx.errors import UserError
from warehouse.lens.fetch import Row, fetch, literal
from warehouse.lens.wholeness import left_out, refuse_damaged
from warehouse.trend.tails import Exchange

READ = "select 1 from runs, watched, predictions, trend"  # all that is read here, for `open_warehouse`
Key = tuple[str, str, str]  # kind, name, class ("" where none is meant), as in the views `watched` and `trend`


@dataclass(frozen=True)
class Night:
    """A finished run. known: SHA-256 of classifier, oracle, data …, by what it is of."""

    run_id: str
    audit: str
    started: datetime
    margin: float
    classes: tuple[str, ...]
    known: dict[str, str | None]


class Tonight(NamedTuple):
    """What tonight and the nights that it is compared with have of one quantity.

    exchange: of the images that count: those in common, each with its value of one earlier night drawn by lot, and the new ones
    beside the earlier ones that tonight does not have. means: of all images, earlier and tonight.
    """

    exchange: Exchange
    means: tuple[float, float]


# Of an image on several earlier nights one night's value, by lot: two values may be exchanged, one and a mean of several may not.
# The hash is of one text, because DuckDB's of two is the xor of two hashes.
_VALUES = """
with tonight as (select kind, name, coalesce(class, '') as class, image_id, value from watched where run_id = $run),
earlier as (
    select kind, name, coalesce(class, '') as class, image_id, arg_min(value, hash(image_id || run_id)) as value
    from watched where run_id in ({earlier})
    group by kind, name, coalesce(class, ''), image_id
)
select kind, name, class, t.value as tonight, e.value as earlier
from tonight t full join earlier e using (kind, name, class, image_id)
where isfinite(coalesce(t.value, e.value))
order by kind, name, class, image_id
"""
_ANSWERS = """
with tonight as (select image_id, class from predictions where run_id = $run),
earlier as (
    select image_id, arg_min(class, hash(image_id || run_id)) as class
    from predictions where run_id in ({earlier}) group by image_id
)
select t.class as tonight, e.class as earlier from tonight t full join earlier e using (image_id) order by image_id
"""
_SERIES = """
select run_id, started, kind, name, coalesce(class, '') as class, value, low, high, n, confirmed
from trend where run_id in ({runs}) order by kind, name, class, started, run_id
"""
_RUNS = "select run_id, name, started, margin, classes, fingerprints from runs where status = 'finished' order by started, run_id"


def nights_of(lens: duckdb.DuckDBPyConnection, subject: str) -> list[Night]:
    """The finished runs of an audit, oldest first, up to the one of that id if `subject` is a run; those with its classes only.

    Raises UserError for what is neither a finished run nor the name of an audit that has one.
    """
    runs = [
        Night(row["run_id"], row["name"], row["started"], row["margin"], tuple(row["classes"]), json.loads(row["fingerprints"]))
        for row in fetch(lens, _RUNS)
    ]
    last = next((night for night in runs if night.run_id == subject), None)
    last = last or next((night for night in reversed(runs) if night.audit == subject), None)
    if last is None:
        there = ", ".join(sorted({night.audit for night in runs})) or "none yet"
        raise UserError(f"there is no audit and no finished run {subject!r} in this warehouse; its audits: {there} (--warehouse)")
    nights = [night for night in runs if (night.audit, night.classes) == (last.audit, last.classes)]
    return nights[: nights.index(last) + 1]


def sound_nights(lens: duckdb.DuckDBPyConnection, nights: Sequence[Night]) -> list[Night]:
    """Without those of which a file is damaged, whose rows the lens leaves out. Raises DamagedRun if the last of them is one."""
    refuse_damaged(lens, nights[-1].run_id)
    missing = {run for run, _ in left_out(lens)}
    return [night for night in nights if night.run_id not in missing]


def night_of(lens: duckdb.DuckDBPyConnection, run_id: str, classes: Sequence[str]) -> Night:
    """One finished run, of whatever audit. Raises UserError if there is none, or if it has other classes than these."""
    found = next((night for night in nights_of(lens, run_id) if night.run_id == run_id), None)
    if found is None:
        raise UserError(f'{run_id!r} is no finished run; `cfx query "from runs"` lists them')
    refuse_damaged(lens, run_id)
    if found.classes != tuple(classes):
        raise UserError(f"{run_id}: its classes ({', '.join(found.classes)}) are not those of tonight ({', '.join(classes)})")
    return found


def values_of(lens: duckdb.DuckDBPyConnection, tonight: Night, earlier: Sequence[Night]) -> Iterator[tuple[Key, Tonight]]:
    """Every quantity that is known image by image, tonight and earlier."""
    sql = _VALUES.format(earlier=_listed(earlier))
    table = lens.execute(sql, {"run": tonight.run_id}).to_arrow_table()
    keys = list(zip(*(table[name].to_pylist() for name in ("kind", "name", "class")), strict=True))
    now, before = (table[name].to_numpy().astype(np.float64) for name in ("tonight", "earlier"))
    starts = [i for i in range(len(keys)) if i == 0 or keys[i] != keys[i - 1]]
    for start, end in zip(starts, [*starts[1:], len(keys)], strict=True):
        a, b = now[start:end], before[start:end]
        if (~np.isnan(a)).any() and (~np.isnan(b)).any():
            yield keys[start], Tonight(exchange_of(a, b), (float(np.nanmean(b)), float(np.nanmean(a))))


def exchange_of(now: NDArray[np.float64], before: NDArray[np.float64]) -> Exchange:
    """Of values an image (N,), NaN where a side does not have it. New images count where there are earlier ones beside them."""
    has_now, had = ~np.isnan(now), ~np.isnan(before)
    new, earlier = now[has_now & ~had], before[had & ~has_now]
    return Exchange((now - before)[has_now & had], new if len(earlier) else new[:0], earlier)


def answers_of(lens: duckdb.DuckDBPyConnection, tonight: Night, earlier: Sequence[Night]) -> tuple[list[str], list[str]]:
    """The classes predicted of tonight's new images, and of the earlier ones that tonight does not have."""
    rows = fetch(lens, _ANSWERS.format(earlier=_listed(earlier)), run=tonight.run_id)
    return (
        [row["tonight"] for row in rows if row["earlier"] is None],
        [row["earlier"] for row in rows if row["tonight"] is None],
    )


def series_of(lens: duckdb.DuckDBPyConnection, nights: Sequence[Night]) -> dict[Key, list[Row]]:
    """Rows of the view `trend` by quantity, oldest first."""
    found: dict[Key, list[Row]] = {}
    for row in fetch(lens, _SERIES.format(runs=_listed(nights))):
        found.setdefault((row.pop("kind"), row.pop("name"), row.pop("class")), []).append(row)
    return found


def _listed(nights: Sequence[Night]) -> str:
    """Run ids as SQL; written out, because DuckDB then leaves the other runs' files alone."""
    return ", ".join(literal(night.run_id) for night in nights)
