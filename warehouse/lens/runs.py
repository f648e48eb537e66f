"""Which run a person means: a run id, the beginning of one, `latest`, or `latest:AUDIT`.

DuckDB is imported where it is needed: a shell that completes an id waits for the names of folders alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from cfx.errors import UserError
from warehouse.facts.storage import files_below

LATEST = "latest"
DIGITS = 4  # of the hash behind an audit's name, at least, that a short id keeps: one digit would soon be another run's too
LISTED = 12  # runs in a message
NEWEST_FIRST = "number desc nulls last, started desc, run_id"  # of `runs`: in the order in which they began, whatever clocks said
_FINISHED = f"""
    select run_id from runs where status = 'finished' and ($audit = '' or name = $audit) order by {NEWEST_FIRST} limit 1
"""


def run_ids(root: Path) -> list[str]:
    """Every run that began, in order of name; read from the folders alone, so that a shell need not wait."""
    began = files_below(root / "facts" / "runs", "run_id=*/*.parquet")
    return sorted({path.parent.name.removeprefix("run_id=") for path in began})


def resolve(root: Path, name: str) -> str:
    """The id of the run that is meant. `latest` is the newest finished run, `latest:AUDIT` that of one audit.

    Raises UserError for a name that no run begins with, and for one that several do: it lists them.
    """
    known = run_ids(root)
    if name in known:
        return name
    if name == LATEST or name.startswith(f"{LATEST}:"):
        return _latest(root, name.removeprefix(LATEST).removeprefix(":"))
    found = [run for run in known if name and run.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{name!r} begins the ids of {len(found)} runs: {listed(found)}; write more of the one you mean, or {LATEST}:AUDIT "
            "for the newest of an audit"
        )
    raise UserError(f"there is no run {name!r} in {root}; the runs are: {listed(known) or 'none yet'}")


def audits(root: Path) -> list[str]:
    """The names of all audits that began, in order."""
    from warehouse.lens.listed_runs import list_of_runs

    return [name for (name,) in list_of_runs(root).execute("select distinct name from runs order by name").fetchall()]


def short_ids(known: Iterable[str]) -> dict[str, str]:
    """For each run id as much of its beginning as no other has, with the audit's name and DIGITS of its hash at least.

    Examples:
        >>> short_ids(["faces-0a1b2c3d4e", "faces-0a1bffffff", "hats-99aa00bb11"])
        {'faces-0a1b2c3d4e': 'faces-0a1b2', 'faces-0a1bffffff': 'faces-0a1bf', 'hats-99aa00bb11': 'hats-99aa'}
    """
    order = sorted(known)
    shared = [_alike(one, other) for one, other in pairwise(order)]
    around = zip(order, [0, *shared], [*shared, 0], strict=True) if order else ()
    return {run: run[: max(before + 1, after + 1, run.rfind("-") + 1 + DIGITS)] for run, before, after in around}


def _alike(one: str, other: str) -> int:
    """With how many letters both begin."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _latest(root: Path, audit: str) -> str:
    from warehouse.lens.listed_runs import list_of_runs

    found = list_of_runs(root).execute(_FINISHED, {"audit": audit}).fetchone()
    if found is None:
        of = f" of the audit {audit!r}" if audit else ""
        raise UserError(f"there is no finished run{of} in {root}; `cfx runs` lists all that began")
    return str(found[0])


def listed(runs: list[str]) -> str:
    """The first LISTED of them for a message, and how many more there are."""
    return ", ".join(runs[:LISTED]) + (f" and {len(runs) - LISTED} more" if len(runs) > LISTED else "")
