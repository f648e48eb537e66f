"""SHA-256 of a report and of every fact that it rests on, in a file beside it that `sha256sum -c` reads too."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

from warehouse.facts.storage import Root, files_below, name_in, write_whole
from warehouse.lens.connect import open_warehouse


def hashes_path(root: Path, run_id: str) -> Path:
    """Where the hashes of a report are, once it is written; its names are relative to the warehouse."""
    return root / "reports" / f"{run_id}.sha256"


def write_hashes(root: Path, run_id: str, page: bytes) -> None:
    """Writes down the hash of a report and of every fact of the runs that it rests on."""
    files = {report_name(run_id): hashlib.sha256(page).hexdigest()}
    files |= {name: digest for run in (run_id, *other_runs(root, run_id)) for name, digest in run_hashes(root, run).items()}
    lines = (f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    write_whole(root, hashes_path(root, run_id), "".join(lines).encode(), replace=True)


def read_sums(path: Root) -> dict[str, str]:
    """The hashes by file, as they were written down; a line that cannot be read is left out."""
    parts = (line.partition("  ") for line in path.read_bytes().decode(errors="replace").splitlines())
    return {name: digest for digest, between, name in parts if between}


def other_runs(root: Path, run_id: str) -> list[str]:
    """The runs whose facts a report rests on besides its own: its edits, the audit it is compared with, its canary's twins."""
    sql = """
        select edits from effects where run_id = $run
        union select base_id from bases where run_id = $run
        union select planted_run from canaries where run_id = $run
        union select clean_run from canaries where run_id = $run
        order by 1
    """
    with closing(open_warehouse(root, sql=sql)) as lens:
        return [run for (run,) in lens.execute(sql, {"run": run_id}).fetchall()]


def run_hashes(root: Path, run_id: str) -> dict[str, str]:
    """The hashes of a run's facts by file, as they are."""
    return {name_in(root, path): hashlib.sha256(path.read_bytes()).hexdigest() for path in run_files(root, run_id)}


def later_files(root: Path, run_id: str) -> list[str]:
    """The facts of a run that came after its report was written: reviews, names, another policy."""
    listed = read_sums(hashes_path(root, run_id))
    return sorted({name_in(root, path) for path in run_files(root, run_id)} - listed.keys())


def run_files(root: Root, run_id: str) -> list[Root]:
    """The facts of a run."""
    return files_below(root / "facts", f"*/run_id={run_id}/[!.]*.parquet")


def report_name(run_id: str) -> str:
    """A report's name, relative to the warehouse."""
    return f"reports/{run_id}.html"
