"""What a lens does about damaged files: a run of which a question would read one is left out of the answer, and named.

An answer from the rest of a run's rows would look like one about all of them. So such a run keeps its row of `runs`, where that
is sound, and no other; a question about that run alone is refused (`refuse_damaged`). The same goes for a run whose policy
compares it with such a run, where the policy is read, and for one that was asked about edits of which a file is damaged.
Sums are made from rows, so where a file of sums is damaged, the rows are asked in its place.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from warehouse.facts.damage import Damage, DamagedRun, damage_among, file_of
from warehouse.facts.storage import Root
from warehouse.lens.catalog import SUMS
from warehouse.lens.fetch import fetch, literal
from warehouse.lens.needed_views import DAMAGED, LEFT_OUT

Files = dict[str, dict[str, list[Root]]]  # by fact and run
_COLUMNS = ("run_id", "fact", "file", "wrong", "way_out")
_log = logging.getLogger(__name__)
_logged = set[str]()


@dataclass(frozen=True)
class Wholeness:
    """The damaged files among those that a lens would read, and what they keep out of it: (run, file)."""

    damaged: tuple[Damage, ...] = ()
    left_out: tuple[tuple[str, Damage], ...] = ()

    def lay_out(self, con: duckdb.DuckDBPyConnection) -> None:
        """The views facts.damaged and facts.left_out, alike but for the run: of the first whose file it is, of the second who
        cannot be asked about without it."""
        for name, rows in ((DAMAGED, [(one.run_id, one) for one in self.damaged]), (LEFT_OUT, list(self.left_out))):
            written = ", ".join(
                f"({', '.join(map(literal, (run, one.fact, one.file, one.wrong, one.way_out)))})" for run, one in rows
            )
            listed = f"from (values {written}) t({', '.join(_COLUMNS)})" if rows else f"{_NONE} where false"
            con.execute(f"create view facts.{name} as {listed}")

    def log(self) -> None:
        """Say what is left out, once a process."""
        for said in left_out_in_words(self.left_out):
            if said not in _logged:
                _logged.add(said)
                _log.warning("%s", said)


_NONE = "select " + ", ".join(f"null::varchar as {name}" for name in _COLUMNS)


def whole_of(place: Root, there: Files, in_part: bool = False) -> tuple[Files, Wholeness]:
    """The files that a lens may read, of these, and what is damaged. in_part: leave out the damaged files and no other."""
    damaged = damage_among(place, (path for runs in there.values() for paths in runs.values() for path in paths))
    if not damaged:
        return there, Wholeness()
    bad = {one.file for one in damaged}
    sound = {fact: _sound(runs, bad) for fact, runs in there.items()}
    if in_part:
        return sound, Wholeness(tuple(damaged))
    left_out = _left_out(sound, damaged)
    records = {one.run_id for one in damaged if one.fact == "runs"}
    kept = {
        fact: {run: paths for run, paths in runs.items() if run not in left_out or (fact == "runs" and run not in records)}
        for fact, runs in sound.items()
    }
    return kept, Wholeness(tuple(damaged), tuple((run, one) for run, because in sorted(left_out.items()) for one in because))


def _sound(runs: Mapping[str, Sequence[Root]], bad: set[str]) -> dict[str, list[Root]]:
    kept = {run: [path for path in paths if file_of(path) not in bad] for run, paths in runs.items()}
    return {run: paths for run, paths in kept.items() if paths}


def _left_out(sound: Files, damaged: Iterable[Damage]) -> dict[str, list[Damage]]:
    """The runs that cannot be asked about, each with the damaged files that are why."""
    because: dict[str, list[Damage]] = {}
    for one in damaged:
        if one.fact not in SUMS.values():
            because.setdefault(one.run_id, []).append(one)
    found = dict(because)
    for fact, column in (("effects", "edits"), ("policies", "base")):
        for run, paths in sound.get(fact, {}).items():
            others = {name for path in paths for name in _values(path, column)} & because.keys() - {run}
            for other in sorted(others):
                found[run] = [*found.get(run, []), *because[other]]
    return found


def _values(path: Root, column: str) -> set[str]:
    with path.open("rb") as file, pq.ParquetFile(file) as parquet:
        return set(parquet.read(columns=[column])[column].to_pylist())


def left_out(con: duckdb.DuckDBPyConnection) -> tuple[tuple[str, Damage], ...]:
    """What a lens leaves out of its answers: a run, and a file that is why."""
    rows = fetch(con, f"from facts.{LEFT_OUT} order by all")
    return tuple((row["run_id"], _damage(row["fact"], row["file"], row["wrong"])) for row in rows)


def left_out_in_words(found: Sequence[tuple[str, Damage]]) -> list[str]:
    """A line a run."""
    runs: dict[str, list[Damage]] = {}
    for run, one in found:
        runs.setdefault(run, []).append(one)
    more = (f" and {len(because) - 1} more" if len(because) > 1 else "" for because in runs.values())
    return [
        f"run {run} is left out: {because[0]}{others}; {because[0].way_out} (`cfx scrub {run}`)"
        for (run, because), others in zip(runs.items(), more, strict=True)
    ]


def refuse_damaged(con: duckdb.DuckDBPyConnection, *run_ids: str) -> None:
    """Raises DamagedRun for the first of these runs of which this lens would have read a damaged file."""
    found = left_out(con) if run_ids else ()
    for run_id in run_ids:
        if because := [one for run, one in found if run == run_id]:
            raise DamagedRun(run_id, because)


def refuse_named(con: duckdb.DuckDBPyConnection, sql: str, values: Iterable[object]) -> None:
    """The same for a run that is one of these values, or stands in the query as a text of its own."""
    named = [run for run, _ in left_out(con) if f"'{run}'" in sql]
    refuse_damaged(con, *named, *(value for value in values if isinstance(value, str)))


def refuse_among(paths: Sequence[Root]) -> None:
    """Raises DamagedRun where one of these files of one warehouse is damaged."""
    if paths and isinstance(paths[0], Path) and (found := damage_among(paths[0].parents[3], paths)):
        raise DamagedRun(found[0].run_id, found)


def _damage(fact: str, file: str, wrong: str) -> Damage:
    return Damage(file.split("/")[2].removeprefix("run_id="), fact, file, wrong)
