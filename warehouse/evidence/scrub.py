"""Is every file among the facts as it was written? Each is read whole, whatever is known of it; what is missing is named, too."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from warehouse.facts.damage import Damage, damage_in_any_byte, file_of
from warehouse.facts.schema import FACTS
from warehouse.facts.storage import Root, files_below, remembered
from warehouse.report.hashes import read_sums


@dataclass(frozen=True)
class Scrubbed:
    """How many files and bytes were read, and what is damaged, not sealed or missing, in order of name."""

    files: int
    bytes: int
    damage: tuple[Damage, ...]


def scrub(root: Path, run_id: str | None = None) -> Scrubbed:
    """Read every file of a run and of the edits that it used, or of every run. Raises OSError for an object store that fails."""
    place = remembered(root)
    found = list(_files(place, run_id))
    damage = damage_in_any_byte(place, found)
    if run_id is not None:
        edits = sorted(_edits_of(found, {one.file for one in damage}))
        home = place / "facts" / "edits"
        drawn = [path for name in edits for path in files_below(home, f"run_id={glob.escape(name)}/[!.]*.parquet")]
        damage += damage_in_any_byte(place, drawn)
        found += drawn
    damage += [one for one in _missing(place, found) if one not in damage]
    size = sum(path.stat().st_size for path in found if path.exists())
    return Scrubbed(len(found), size, tuple(sorted(set(damage), key=lambda one: one.file)))


def _files(place: Root, run_id: str | None) -> Iterator[Root]:
    """Also files of what is no fact: nobody else looks at them, so nothing is wrong with them."""
    run = "*" if run_id is None else glob.escape(run_id)
    for fact in FACTS:
        yield from files_below(place / "facts" / fact, f"run_id={run}/[!.]*.parquet")


def _edits_of(files: list[Root], damaged: set[str]) -> set[str]:
    names = set[str]()
    for path in files:
        if path.parent.parent.name == "effects" and file_of(path) not in damaged:
            with path.open("rb") as file, pq.ParquetFile(file) as parquet:
                names |= set(parquet.read(columns=["edits"])["edits"].to_pylist())
    return names


def _missing(place: Root, files: list[Root]) -> Iterator[Damage]:
    """Shards of these runs that are recorded as written, in `stages` or beside a report, and are not there."""
    there = {file_of(path) for path in files}
    runs = {file.split("/")[2].removeprefix("run_id=") for file in there}
    recorded = set[str]()
    for path in files:
        if path.parent.parent.name == "stages":
            fact, dot, key = path.stem.partition(".")
            recorded |= {f"facts/{fact}/{path.parent.name}/{key}.parquet"} if dot else set()
    for path in files_below(place / "reports", "*.sha256"):
        own = f"/run_id={path.name.removesuffix('.sha256')}/"
        recorded |= {file for file in read_sums(path) if own in file and file.startswith("facts/")}
    for file in sorted(recorded - there):
        _, fact, run, _ = file.split("/")
        if run.removeprefix("run_id=") in runs:
            yield Damage(run.removeprefix("run_id="), fact, file, "missing")
