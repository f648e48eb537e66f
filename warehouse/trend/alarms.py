"""`alarms`: is tonight's audit other than the nights before? `trend`: the same with every quantity and its series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb

from cfx.errors import UserError
from warehouse.lens.connect import open_warehouse
from warehouse.lens.fetch import Row
from warehouse.trend.changes import Change, compared
from warehouse.trend.nights import READ, Key, Night, night_of, nights_of, sound_nights

LAST = 30  # nights that tonight is compared with
WEEK = 7  # nights that an alarm is followed back


@dataclass(frozen=True)
class Alarm:
    """A change that is neither chance nor too small. nights: for so many in a row, 1 of a new one, WEEK also of more; since: the
    first of them."""

    change: Change
    nights: int
    since: str

    def __str__(self) -> str:
        if self.nights == 1:
            return str(self.change)
        return f"{self.change}; for {self.nights} nights{' or more' if self.nights == WEEK else f', since {self.since}'}"


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
class _History:
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
        nights = sound_nights(lens, nights_of(lens, subject))
        base = night_of(lens, against, nights[-1].classes) if against is not None else None
        history, tonight = _History(nights, last, base), nights[-1]
        references = history.references(len(nights) - 1)
        if base is not None and not references:
            raise UserError(f"--against: {against} is the run itself; give another one, or leave it out")
        found = compared(lens, tonight, references)
        return Trend(
            tonight.audit,
            tonight.run_id,
            tuple(night.run_id for night in references),
            found.level,
            tuple(what for what in tonight.known if references and tonight.known[what] != references[-1].known.get(what)),
            tuple(found.changes),
            tuple(_alarms(lens, history, [change for change in found.changes if change.alarm])),
            found.series,
        )


def _alarms(lens: duckdb.DuckDBPyConnection, history: _History, changes: list[Change]) -> Iterator[Alarm]:
    """With how many nights in a row, at most WEEK, each quantity has been alarming, every night against those before it."""
    tonight = len(history.nights) - 1
    first = {change.key: tonight for change in changes}
    for i in range(tonight - 1, max(0, tonight - WEEK), -1):
        lasting = {key for key, since in first.items() if since == i + 1}
        if not lasting:
            break
        before = compared(lens, history.nights[i], history.references(i)).changes
        first |= {change.key: i for change in before if change.alarm and change.key in lasting}
    for change in changes:
        since = first[change.key]
        yield Alarm(change, tonight - since + 1, history.nights[since].run_id)
