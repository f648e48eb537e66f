"""An audit's earlier runs beside this one: lines of what matters most, from the view `trend`; alarms of `cfx trend` are marked.

A report rests on its own run; of earlier ones it shows numbers that `cfx verify` asks again where those runs are still there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from cfx.errors import UserError
from warehouse.lens.connect import open_warehouse
from warehouse.lens.fetch import Row, fetch, literal
from warehouse.lens.listed_runs import list_of_runs
from warehouse.report.charts import Axis, axis_over
from warehouse.report.embedded_numbers import read_block, steady
from warehouse.report.formatting import percent, points
from warehouse.report.queries import Evidence

if TYPE_CHECKING:
    from warehouse.trend.alarms import Alarm

READ = "select 1 from runs, trend"  # what is asked here of other runs
MOST = 30  # runs
EFFECTS = 3  # lines of effects, besides those with an alarm

_RUNS = """
select run_id, started
from runs join (select name, classes, started as tonight from runs where run_id = $run and status = 'finished')
    using (name, classes)
where status = 'finished' and (started, run_id) <= (tonight, $run)
order by started desc, run_id desc limit $most
"""
_SERIES = """
select run_id, started, kind, name, coalesce(class, '') as class, value, low, high, n
from trend
where run_id in ({runs}) and (kind in ('accuracy', 'explained') or (kind, name, coalesce(class, '')) in ({keys}))
order by kind <> 'accuracy', kind <> 'explained', kind, name, class, started, run_id
""".strip()
_TEXT = r"'(?:[^'\0]|'')*'"
_KEY = rf"\({_TEXT}, {_TEXT}, {_TEXT}\)"
_OUR_SERIES = re.compile(
    re.escape(_SERIES)
    .replace(re.escape("{runs}"), rf"{_TEXT}(?:, {_TEXT})*")
    .replace(re.escape("{keys}"), rf"{_KEY}(?:, {_KEY})*")
)


@dataclass(frozen=True)
class Point:
    """One run's value: positions are SVG lengths, `low` and `high` those of its interval, the value's where it has none."""

    run_id: str
    started: datetime
    x: str
    y: str
    low: str
    high: str
    text: str
    alarm: bool


@dataclass(frozen=True)
class Line:
    """One quantity over the runs that have it, oldest first. bottom, top: the ends of its scale, in words."""

    title: str
    points: tuple[Point, ...]
    bottom: str
    top: str

    @property
    def alarm(self) -> bool:
        """Whether the last run is alarming: other than those before it, by more than chance and the margin."""
        return self.points[-1].alarm


@dataclass(frozen=True)
class Nights:
    """The runs, oldest first, with the result of each one's release check (None: no policy, or no report); and the lines."""

    runs: tuple[tuple[str, datetime, str | None], ...]
    lines: tuple[Line, ...]


def ask_nights(root: Path, run_id: str, claims: Sequence[Row], rules: Sequence[Row]) -> Evidence | None:
    """The evidence of the lines; None for the first run of an audit and for one that has not finished.

    claims: rows of `findings`, of which the strongest are followed; rules: of `gate`. Besides numbers a row of the answer has
    `gate`, what its run's release check came to, and `alarm`: this run's value is alarming.
    """
    runs = runs_of(root, run_id)
    if len(runs) < 2:
        return None
    from warehouse.trend.alarms import alarms  # scipy's statistics take a third of a second to import

    found = alarms(root, run_id)
    keys = _followed(claims, found)
    rows = ", ".join(f"({', '.join(literal(part) for part in key)})" for key in keys) or "('', '', '')"
    sql = _SERIES.format(runs=", ".join(map(literal, sorted(runs))), keys=rows)
    gates = {run: _gate_of(root, run) for run in runs} | {run_id: _verdict(rules)}
    alarming = {alarm.change.key for alarm in found}
    with closing(open_warehouse(root, sql=sql, runs=runs)) as lens:
        answer = fetch(lens, sql)
    for row in answer:
        key = row["kind"], row["name"], row["class"]
        row |= {"gate": gates[row["run_id"]], "alarm": row["run_id"] == run_id and key in alarming}
    return Evidence(sql, [steady(row) for row in answer])  # as the page's JSON has it, from which it is drawn again


def runs_of(root: Path, run_id: str) -> list[str]:
    """The run and the finished ones of its audit before it, newest first, at most MOST; none for one that has not finished."""
    return [row["run_id"] for row in fetch(list_of_runs(root), _RUNS, run=run_id, most=MOST)]


def _followed(claims: Sequence[Row], found: Sequence[Alarm]) -> list[tuple[str, str, str]]:
    """The strongest claims that stand, and whatever has an alarm and an interval."""
    standing = [row for row in claims if row["verdict"] in ("confirmed", "suspected", "fragile", "named")]
    strongest = sorted((row for row in standing if row["intervention"] is not None), key=lambda row: -abs(row["intervention"]))
    keys = [(row["kind"], row["name"], row["class"] or "") for row in strongest[:EFFECTS]]
    alarming = [alarm.change.key for alarm in found if alarm.change.kind in ("attribute", "property", "place")]
    return list(dict.fromkeys([*keys, *alarming]))


def _gate_of(root: Path, run_id: str) -> str | None:
    """What a run's own report says of its release check: to work it out again takes a second a run."""
    path = root / "reports" / f"{run_id}.html"
    if not path.is_file():
        return None
    try:
        rules = read_block(path.read_text(encoding="utf-8"))["questions"]["rules"]["rows"]
    except (ValueError, KeyError, OSError):
        return None  # a damaged report, or one of an older version: `cfx verify` says so
    return _verdict(rules)


def _verdict(rules: Sequence[Row]) -> str | None:
    return str(rules[0]["verdict"]) if rules else None


def nights_of(rows: Sequence[Row] | None) -> Nights | None:
    """The lines as they are drawn, from the evidence's rows; None without any."""
    if not rows:
        return None
    runs = sorted({(row["started"], row["run_id"], row["gate"]) for row in rows}, key=lambda run: run[:2])
    at = Axis(-0.5, len(runs) - 0.5)
    across = {run: at.at(i) for i, (_, run, _) in enumerate(runs)}
    grouped = groupby(rows, key=lambda row: (row["kind"], row["name"], row["class"]))
    lines = tuple(_line(*key, list(rows), across) for key, rows in grouped)
    return Nights(tuple((run, started, gate) for started, run, gate in runs), lines)


def _line(kind: str, name: str, target: str, rows: Sequence[Row], across: dict[str, str]) -> Line:
    share = kind in ("accuracy", "explained")
    ends = [row[end] if row[end] is not None else row["value"] for row in rows for end in ("low", "high", "value")]
    # Shares from the lowest of at least a tenth to 1, effects with their zero.
    axis = Axis(max(0.0, min(0.9, *ends) - 0.02), 1.0) if share else axis_over(ends)

    def down(value: float) -> str:
        return f"{100 - float(axis.at(value)[:-1]):.2f}%"

    in_words = percent if share else points

    def point(row: Row) -> Point:
        low, high = (row[end] if row[end] is not None else row["value"] for end in ("low", "high"))
        at = across[row["run_id"]], down(row["value"]), down(low), down(high)
        return Point(row["run_id"], row["started"], *at, in_words(row["value"]), row["alarm"])

    return Line(_title(kind, name, target), tuple(map(point, rows)), in_words(axis.low), in_words(axis.high))


def _title(kind: str, name: str, target: str) -> str:
    match kind:
        case "accuracy":
            return "Accuracy"
        case "explained":
            return f"Explained share, “{target}”"
        case "attribute":
            return f"“{name}” edited, points of “{target}”"
        case "property":
            return f"{name} probed, points of “{target}”"
    return f"{name} exchanged, points of “{target}”"


def read_evidence(question: object) -> Evidence | None:
    """The evidence of the lines as a page's JSON has it, from whoever wrote that page; None where there is none.

    Raises UserError unless its query is that of `ask_nights`, for some runs and names, and its answer has that query's columns.
    """
    match question:
        case None:
            return None
        case {"sql": str(sql), "rows": [*rows], **rest} if not rest and _OUR_SERIES.fullmatch(sql):
            if all(_is_row(row) for row in rows):
                return Evidence(sql, [started_in(row) for row in rows])
    raise UserError("the numbers of earlier runs are not those of the report's own query")


def _is_row(row: object) -> bool:
    match row:
        case {
            "run_id": str(),
            "started": str(),
            "kind": str(),
            "name": str(),
            "class": str(),
            "value": float() | int(),
            "low": float() | int() | None,
            "high": float() | int() | None,
            "n": int() | None,
            "gate": str() | None,
            "alarm": bool(),
            **rest,
        }:
            return not rest
    return False


def started_in(row: Row) -> Row:
    """A row as the page's JSON has it, with its time read again."""
    return row | {"started": datetime.fromisoformat(row["started"])}
