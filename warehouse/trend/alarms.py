"""`alarms`: is tonight's audit other than the nights before? `trend`: the same with every quantity and its series."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb

from cfx.errors import UserError
from warehouse.lens.connect import open_warehouse
from warehouse.lens.fetch import Row
from warehouse.trend.changes import Change, changes_of
from warehouse.trend.nights import READ, Key, Night, night_of, nights_of, series_of

LAST = 30  # nights that tonight is compared with


@dataclass(frozen=True)
class Alarm:
    """A change that is neither chance nor too small. nights: for so many in a row, 1 of a new one; since: the first of them."""

    change: Change
    nights: int
    since: str

    def __str__(self) -> str:
        return f"{self.change}" + (f"; for {self.nights} nights, since {self.since}" if self.nights > 1 else "")


@dataclass(frozen=True)
class Trend:
    """An audit over its nights.

    references: the runs that `run_id` is compared with, oldest first. level: of one test, two-sided. differing: what has another
    fingerprint than in the last of them (classifier, oracle, data …). series: rows of the view `trend` by quantity.
    """

    audit: str
    run_id: str
    references: tuple[str, ...]
    level: float
    differing: tuple[str, ...]
    changes: tuple[Change, ...]
    alarms: tuple[Alarm, ...]
    series: dict[Key, list[Row]]


@dataclass(frozen=True)
class _Comparison:
    """Nights, oldest first, each of which is compared with those before it, or all of them with one base."""

    nights: Sequence[Night]
    last: int
    base: Night | None

    def references(self, i: int) -> Sequence[Night]:
        """What the i-th night is compared with."""
        if self.base is None:
            return self.nights[max(0, i - self.last) : i]
        return [] if self.base.run_id == self.nights[i].run_id else [self.base]


def alarms(root: Path, run_id: str, last: int = LAST) -> list[Alarm]:
    """What is alarming about a finished run of an audit, against up to `last` nights before it; nothing on its first night.

    Raises UserError for a run that is not there or not finished.
    """
    return list(trend(root, run_id, last).alarms)


def trend(root: Path, subject: str, last: int = LAST, against: str | None = None) -> Trend:
    """The newest run of an audit, or this run, against up to `last` nights before it, or against one run alone.

    Raises UserError for an unknown subject, and for a run to compare with that is not finished, has other classes or is the same.
    """
    with closing(open_warehouse(root, sql=READ)) as lens:
        nights = nights_of(lens, subject)
        base = night_of(lens, against, nights[-1].classes) if against is not None else None
        compared, tonight = _Comparison(nights, last, base), nights[-1]
        references = compared.references(len(nights) - 1)
        if base is not None and not references:
            raise UserError(f"--against: {against} is the run itself; give another one, or leave it out")
        level, changes = changes_of(lens, tonight, references)
        return Trend(
            tonight.audit,
            tonight.run_id,
            tuple(night.run_id for night in references),
            level,
            tuple(what for what in tonight.known if references and tonight.known[what] != references[-1].known.get(what)),
            tuple(changes),
            tuple(_alarm(lens, compared, change) for change in changes if change.alarm),
            series_of(lens, [*references, tonight]),
        )


def _alarm(lens: duckdb.DuckDBPyConnection, compared: _Comparison, change: Change) -> Alarm:
    """With how many nights in a row, at most `last`, the quantity has been alarming; each against those before it."""
    first = len(compared.nights) - 1
    for i in range(first - 1, max(0, first - compared.last), -1):
        _, before = changes_of(lens, compared.nights[i], compared.references(i))
        if not any(one.alarm and one.key == change.key for one in before):
            break
        first = i
    return Alarm(change, len(compared.nights) - first, compared.nights[first].run_id)
