"""Data retention: whole runs that are past their time leave the warehouse, with all that was made for them alone.

Edits belong to no run: audits of the same images share them. They go with the last run that used them. `draws` stay, which name
files of a night and hold no image: a night that is audited again has the same images.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from warehouse.facts.storage import cache_of, files_below
from warehouse.lens.connect import open_warehouse
from warehouse.lens.runs import NEWEST_FIRST
from warehouse.report.hashes import hashes_path, read_sums

LEARNED = ("answers", "words", "surrogates", "editors", "autoencoders")  # of an object store they are in this machine's cache
_OLD = f"""
    select run_id from runs
    qualify started < $before and row_number() over (partition by name order by status = 'finished' desc, {NEWEST_FIRST}) > $keep
    order by started, run_id
"""
_NEEDED = """
    select run_id, base_id from bases where chosen = 'by policy'
    union select run_id, unnest([planted_run, clean_run]) from canaries
"""
_COMPARED = "select run_id from bases where base_id = $run and run_id <> $run order by run_id"
_USED = "select distinct run_id, edits from effects"
_AT_WORK = "select count(*) as runs from runs where run_id <> $run and status = 'started'"  # which may be about to use them


def expired(root: Path, days: float, keep: int, now: datetime | None = None) -> list[str]:
    """Runs that began more than so many days ago, oldest first. Of each audit's name the `keep` newest finished ones stay, and so
    does what a run that stays cannot be verified without: the run that its policy names, and its canary's twins.
    """
    before = (now or datetime.now(UTC)) - timedelta(days=days)
    with closing(open_warehouse(root, sql=f"{_OLD};{_NEEDED}", in_part=True)) as lens:
        old = [run for (run,) in lens.execute(_OLD, {"before": before, "keep": keep}).fetchall()]
        pairs = lens.execute(_NEEDED).fetchall()
        unknown = lens.execute("select distinct run_id from facts.damaged where fact in ('policies', 'canaries')").fetchall()
    pairs += [(run, base) for (run,) in unknown for base in old if _rests_on(root, run, base)]
    while needed := {other for run, other in pairs if run not in old} & set(old):
        old = [run for run in old if run not in needed]
    return old


def _rests_on(root: Path, run_id: str, other: str) -> bool:
    """Whether a run's report was made with facts of the other: for a run whose policy or canary cannot be read."""
    path = hashes_path(root, run_id)
    return path.is_file() and any(f"/run_id={other}/" in file for file in read_sums(path))


def compared_with(root: Path, run_id: str) -> list[str]:
    """The runs that are compared with this one, or whose report was: without it that is no longer what the facts say."""
    with closing(open_warehouse(root, sql=_COMPARED, in_part=True)) as lens:
        compared = {str(run) for (run,) in lens.execute(_COMPARED, {"run": run_id}).fetchall()}
    lists = {path.name.removesuffix(".sha256"): path for path in files_below(root / "reports", "*.sha256")}
    of_it = f"/run_id={run_id}/".encode()
    return sorted(compared | {run for run, path in lists.items() if run != run_id and of_it in path.read_bytes()})


def forget(root: Path, run_id: str) -> int:
    """Delete every file of a run, and return how many; killed on the way, it is called again: the run's own row goes last."""
    files = files_below(root / "facts", f"*/run_id={run_id}/*")
    files.sort(key=lambda path: path.parent.parent.name == "runs")
    shared = [path for edits in _unused_edits(root, run_id) for path in files_below(root / "facts", f"edits/run_id={edits}/*")]
    beside = [*files_below(root / "reports", f"{run_id}.*"), *files_below(root / "kept", f"*/run_id={run_id}/*")]
    for folder in LEARNED:
        home = root / folder
        here = home if isinstance(home, Path) else cache_of(home)
        beside += [*files_below(here, f"{run_id}/*"), *files_below(here, f"{run_id}.*")]
        if not isinstance(home, Path):
            beside += files_below(cache_of(home / run_id), "*")
    for path in [*beside, *shared, *files]:
        path.unlink(missing_ok=True)
    for left in {path.parent for path in [*shared, *files, *beside] if isinstance(path, Path)} - {root / "reports"}:
        if not any(left.iterdir()):
            left.rmdir()
    return len(files) + len(shared) + len(beside)


def _unused_edits(root: Path, run_id: str) -> list[str]:
    """Edits that this run used, and no other; none while another run is at work, or where what another used cannot be read.

    Where what this run used cannot be read, all that no other run used.
    """
    with closing(open_warehouse(root, sql=f"{_AT_WORK};{_USED}", in_part=True)) as lens:
        damaged = {run for (run,) in lens.execute("select run_id from facts.damaged").fetchall()}
        [(at_work,)] = lens.execute(_AT_WORK, {"run": run_id}).fetchall()
        used = lens.execute(_USED).fetchall()
    if at_work or damaged - {run_id}:
        return []
    others = {edits for run, edits in used if run != run_id}
    if damaged:
        return sorted({path.parent.name.removeprefix("run_id=") for path in files_below(root / "facts/edits", "*/*")} - others)
    return sorted({edits for run, edits in used if run == run_id} - others)
