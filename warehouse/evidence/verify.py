"""Is a report still what its facts say? Every number is recomputed, every file is hashed again."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from cfx.errors import UserError
from warehouse.facts.shards import damaged
from warehouse.lens.connect import open_warehouse
from warehouse.lens.fetch import fetch
from warehouse.lens.settled import settle
from warehouse.report.embedded_numbers import Page, numbers
from warehouse.report.hashes import hashes_path, name_in, read_sums, report_name, run_hashes
from warehouse.report.render import report_html, report_path


@dataclass(frozen=True)
class Verification:
    """How many numbers the report holds and how many came out the same again; what differs; files looked at and found bad."""

    run_id: str
    numbers: int
    recomputed: int
    mismatches: list[str]
    files: int
    bad_files: list[str]

    @property
    def sound(self) -> bool:
        return self.numbers > 0 and self.numbers == self.recomputed and not self.mismatches and not self.bad_files


def verify(root: Path, run_id: str) -> Verification:
    """Run every query of a report again, write the page again, and hash every file.

    Numbers are those of the report's JSON, recomputed by the SQL beside them, and those that a reader sees on the page.
    Raises UserError where there is no report of that run.
    """
    path = report_path(root, run_id)
    if not path.is_file() or not hashes_path(root, run_id).is_file():
        raise UserError(f"there is no report of {run_id!r} in {root}; write it with `cfx report {run_id}`")
    page = path.read_bytes()
    files, bad = _files(root, run_id, page)
    try:
        counted, same, differing = _numbers(root, run_id, page.decode(errors="replace"))
    except (ValueError, OSError, duckdb.Error) as error:  # a damaged page, or facts that cannot be read any more
        counted, same, differing = 0, 0, [f"the numbers cannot be read: {str(error).splitlines()[0]}"]
    return Verification(run_id, counted, same, differing, files, bad)


def _files(root: Path, run_id: str, page: bytes) -> tuple[int, list[str]]:
    """How many files were hashed, and the names of those that are not as they were when the report was written.

    Of other runs that the report rests on, only the facts of that time count: other audits may add edits of the same images.
    """
    listed, own = read_sums(hashes_path(root, run_id)), run_hashes(root, run_id)
    there = own | {report_name(run_id): hashlib.sha256(page).hexdigest()}
    elsewhere = sorted(file for file in listed.keys() - there.keys() if (root / file).is_file())
    there |= {file: hashlib.sha256((root / file).read_bytes()).hexdigest() for file in elsewhere}
    bad = {file for file, digest in listed.items() if there.get(file) != digest}
    bad |= {name_in(root, path) for path in damaged(root, run_id)}
    if report_name(run_id) not in listed:
        bad.add(name_in(root, hashes_path(root, run_id)))
    later = [f"{file} (came after the report: write it again)" for file in sorted(own.keys() - listed.keys())]
    return len(listed.keys() | there.keys()) + 1, sorted(bad) + later


def _numbers(root: Path, run_id: str, page: str) -> tuple[int, int, list[str]]:
    read = Page(page)
    counted, same, differing = asked_again(root, run_id, read.content["questions"])
    seen, again = read.seen, Page(report_html(root, run_id)).seen
    pairs = list(zip(seen, again, strict=False))
    same += sum(a == b for a, b in pairs)
    differing += [f"on the page: {a} in the report, {b} in the facts" for a, b in pairs if a != b][:10]
    if len(seen) != len(again):
        differing.append(f"on the page: {len(seen)} numbers in the report, {len(again)} from the facts")
    return counted + len(seen), same, differing


def asked_again(root: Path, run_id: str, questions: Mapping[str, Any]) -> tuple[int, int, list[str]]:
    """How many numbers these answers hold, how many come out the same from the rows of the facts, and what differs.

    questions: name -> {"sql": the query, "rows": its answer as it was written down}.
    """
    counted, same, differing = 0, 0, []
    with closing(open_warehouse(root, from_rows=True)) as lens:
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
        "numbers": found.numbers,
        "recomputed": found.recomputed,
        "mismatches": found.mismatches,
        "files": found.files,
        "bad_files": found.bad_files,
    }
