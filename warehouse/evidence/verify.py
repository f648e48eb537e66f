"""Is a report still what its facts say? Every number is recomputed, every file is hashed again."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import duckdb

from cfx.errors import UserError
from warehouse.facts.shards import damaged
from warehouse.facts.storage import name_in
from warehouse.lens.connect import open_warehouse
from warehouse.lens.fetch import fetch
from warehouse.lens.listed_runs import with_bases
from warehouse.lens.settled import settle
from warehouse.report.embedded_numbers import Page, numbers
from warehouse.report.formatting import listed
from warehouse.report.hashes import hashes_path, later_files, read_sums, report_name, run_hashes
from warehouse.report.nights import started_in
from warehouse.report.queries import Evidence
from warehouse.report.render import Then, report_html, report_path

State = Literal["sound", "stale", "damaged"]
WORDS = {"reviews": ("review", "reviews"), "names": ("name", "names"), "policies": ("policy", "policies")}  # what a file of it is


@dataclass(frozen=True)
class Verification:
    """How many numbers the report holds and how many came out the same again; what differs; files looked at and found bad.

    later: facts of the run that came after the report, which are left out of all that is asked again. absent: earlier runs of the
    audit whose numbers the report shows and that are not in this warehouse, so that nobody can ask them again here.
    """

    run_id: str
    numbers: int
    recomputed: int
    mismatches: list[str]
    files: int
    bad_files: list[str]
    later: list[str] = field(default_factory=list)
    absent: int = 0

    @property
    def state(self) -> State:
        """damaged: something is not as it was written; stale: all is, and more has come since; otherwise sound."""
        if self.numbers == 0 or self.numbers != self.recomputed or self.mismatches or self.bad_files:
            return "damaged"
        return "stale" if self.later else "sound"

    @property
    def sound(self) -> bool:
        return self.state == "sound"

    @property
    def stale(self) -> str:
        """Why the report is stale, and the way out: it is older than 2 reviews; write it again with …"""
        counts = Counter(name.split("/")[1] for name in self.later)  # by fact
        words = {fact: WORDS.get(fact, (f"file of {fact}", f"files of {fact}")) for fact in counts}
        parts = [f"{n} {words[fact][n > 1]}" for fact, n in counts.items()]
        return f"the report is older than {listed(parts)}; run `cfx report {self.run_id}`"


def verify(root: Path, run_id: str) -> Verification:
    """Run every query of a report again, write the page again, and hash every file.

    Numbers are those of the report's JSON, recomputed by the SQL beside them, and those that a reader sees on the page; both from
    the facts that were there when it was written. Raises UserError where there is no report of that run.
    """
    path = report_path(root, run_id)
    if not path.is_file() or not hashes_path(root, run_id).is_file():
        raise UserError(f"there is no report of {run_id!r} in {root}; write it with `cfx report {run_id}`")
    page, later = path.read_bytes(), later_files(root, run_id)
    files, bad = _files(root, run_id, page)
    absent = 0
    try:
        counted, same, differing, absent = _numbers(root, run_id, page.decode(errors="replace"), frozenset(later))
    except (ValueError, OSError, duckdb.Error) as error:  # a damaged page, or facts that cannot be read any more
        counted, same, differing = 0, 0, [f"the numbers cannot be read: {str(error).splitlines()[0]}"]
    return Verification(run_id, counted, same, differing, files, bad, later, absent)


def _files(root: Path, run_id: str, page: bytes) -> tuple[int, list[str]]:
    """How many files were hashed, and the names of those that are not as they were when the report was written.

    Of other runs that the report rests on, only the facts of that time count: other audits may add edits of the same images.
    """
    sums, own = read_sums(hashes_path(root, run_id)), run_hashes(root, run_id)
    there = own | {report_name(run_id): hashlib.sha256(page).hexdigest()}
    elsewhere = sorted(file for file in sums.keys() - there.keys() if (root / file).is_file())
    there |= {file: hashlib.sha256((root / file).read_bytes()).hexdigest() for file in elsewhere}
    bad = {file for file, digest in sums.items() if there.get(file) != digest}
    bad |= {name_in(root, path) for path in damaged(root, run_id)}
    if report_name(run_id) not in sums:
        bad.add(name_in(root, hashes_path(root, run_id)))
    return len(sums.keys() | there.keys()) + 1, sorted(bad)


def _numbers(root: Path, run_id: str, page: str, later: frozenset[str]) -> tuple[int, int, list[str], int]:
    """How many numbers there are, how many came out the same, what differs, and how many earlier runs are absent."""
    read = Page(page)
    questions = read.content["questions"]
    nights = questions.get("nights")
    then = Then(later, None if nights is None else Evidence(nights["sql"], [started_in(row) for row in nights["rows"]]))
    gone = set[str]()
    if nights is not None:
        known = {row["run_id"] for row in nights["rows"]}
        with closing(open_warehouse(root, sql="from runs", without=later, runs=known)) as lens:
            there = {row["run_id"] for row in fetch(lens, "select run_id from runs where status = 'finished'")}
        gone = known - there
        questions = questions | {"nights": nights | {"rows": [row for row in nights["rows"] if row["run_id"] in there]}}
    counted, same, differing = asked_again(root, run_id, questions, later)
    seen, again = read.seen, Page(report_html(root, run_id, then)).seen
    pairs = list(zip(seen, again, strict=False))
    same += sum(a == b for a, b in pairs)
    differing += [f"on the page: {a} in the report, {b} in the facts" for a, b in pairs if a != b][:10]
    if len(seen) != len(again):
        differing.append(f"on the page: {len(seen)} numbers in the report, {len(again)} from the facts")
    return counted + len(seen), same, differing, len(gone)


def asked_again(
    root: Path, run_id: str, questions: Mapping[str, Any], without: Collection[str] = ()
) -> tuple[int, int, list[str]]:
    """How many numbers these answers hold, how many come out the same from the rows of the facts, and what differs.

    questions: name -> {"sql": the query, "rows": its answer as it was written down}; without: files that came after that.
    """
    counted, same, differing = 0, 0, []
    nights = [row["run_id"] for row in questions.get("nights", {}).get("rows", [])]
    with closing(open_warehouse(root, from_rows=True, without=without, runs=with_bases(root, [run_id, *nights]))) as lens:
        settle(lens, run_id)
        for name, question in questions.items():
            now = dict(numbers(fetch(lens, question["sql"])))
            before = dict(numbers(question["rows"]))
            for place, value in before.items():
                counted += 1
                if place in now and _same(now[place], value):
                    same += 1
                else:
                    differing.append(f"{name}{place}: {value!r} in the report, {now.get(place, 'nothing')!r} in the facts")
            differing += [
                f"{name}{place}: missing in the report" for place in now.keys() - dict(numbers(question["rows"])).keys()
            ]
    return counted, same, differing


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))


def as_json(found: Verification) -> dict[str, object]:
    """For machines."""
    return {
        "run_id": found.run_id,
        "state": found.state,
        "numbers": found.numbers,
        "recomputed": found.recomputed,
        "mismatches": found.mismatches,
        "files": found.files,
        "bad_files": found.bad_files,
        "later_files": found.later,
        "earlier_runs_absent": found.absent,
    }
