"""Data retention: whole runs that are past their time leave the warehouse, their images and reports with them.

`edits` and `draws` stay: audits of the same images share them, and they belong to no run.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from warehouse.facts.storage import files_below
from warehouse.lens.connect import open_warehouse

_OLD = """
    select run_id from runs
    qualify started < $before and row_number() over (partition by name order by status = 'finished' desc, started desc) > $keep
    order by started, run_id
"""


def expired(root: Path, days: float, keep: int, now: datetime | None = None) -> list[str]:
    """Runs that began more than so many days ago, oldest first; of each audit's name the `keep` newest finished ones stay."""
    before = (now or datetime.now(UTC)) - timedelta(days=days)
    with closing(open_warehouse(root, sql=_OLD)) as lens:
        return [run for (run,) in lens.execute(_OLD, {"before": before, "keep": keep}).fetchall()]


def forget(root: Path, run_id: str) -> int:
    """Delete every file of a run, and return how many; killed on the way, it is called again: the run's own row goes last."""
    files = files_below(root / "facts", f"*/run_id={run_id}/*")
    files.sort(key=lambda path: path.parent.parent.name == "runs")
    for path in [*files_below(root / "reports", f"{run_id}.*"), *files]:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in files if isinstance(path, Path)}:
        folder.rmdir()
    return len(files)
