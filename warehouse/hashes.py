"""SHA-256 of a report and of the facts under it, in a file beside it that `sha256sum -c` reads too."""

from __future__ import annotations

import hashlib
from pathlib import Path

from warehouse.storage import Root, files_below, write_whole


def hashes_path(root: Path, run_id: str) -> Path:
    """Where the hashes of a report are, once it is written; its names are relative to the warehouse."""
    return root / "reports" / f"{run_id}.sha256"


def write_hashes(root: Path, run_id: str, page: bytes) -> None:
    """Writes down the hash of a report and of every fact of its run."""
    files = hashes_now(root, run_id, page)
    lines = (f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    write_whole(root, hashes_path(root, run_id), "".join(lines).encode(), replace=True)


def read_sums(path: Path) -> dict[str, str]:
    """The hashes by file, as they were written down; a line that cannot be read is left out."""
    parts = (line.partition("  ") for line in path.read_bytes().decode(errors="replace").splitlines())
    return {name: digest for digest, between, name in parts if between}


def hashes_now(root: Path, run_id: str, page: bytes) -> dict[str, str]:
    """The hashes by file, as they are."""
    name = f"reports/{run_id}.html"
    return {name: hashlib.sha256(page).hexdigest()} | {
        name_in(root, path): hashlib.sha256(path.read_bytes()).hexdigest() for path in run_files(root, run_id)
    }


def run_files(root: Path, run_id: str) -> list[Root]:
    """The facts of a run."""
    return files_below(root / "facts", f"*/run_id={run_id}/[!.]*.parquet")


def name_in(root: Root, path: Root) -> str:
    """A file's name, relative to the warehouse."""
    return str(path).removeprefix(str(root)).lstrip("/")
