"""Is a report still what its facts say? It is made again and held against them, letter for letter; every file is hashed again."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from html import unescape
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, TypeAlias

import duckdb

from cfx.errors import UserError
from warehouse.facts.shards import damaged
from warehouse.facts.storage import name_in
from warehouse.lens.connect import open_warehouse
from warehouse.lens.fetch import fetch
from warehouse.lens.listed_runs import with_bases
from warehouse.lens.settled import settle
from warehouse.report.embedded_numbers import Page, numbers, read_block
from warehouse.report.formatting import listed
from warehouse.report.hashes import facts_digest, hashes_path, later_files, read_sums, report_name, run_hashes
from warehouse.report.made_by import made_by, maker_of
from warehouse.report.nights import read_evidence
from warehouse.report.render import Then, report_html, report_path

State = Literal["sound", "stale", "other version", "damaged"]
Questions: TypeAlias = Mapping[str, Any]  # by name: {"sql": the query, "rows": its answer}
Answers: TypeAlias = dict[str, dict[str, float]]  # by name: every number by its place
WORDS = {"reviews": ("review", "reviews"), "names": ("name", "names"), "policies": ("policy", "policies")}  # what a file of it is
EARLIER = "an earlier version of cfx"  # which did not say which it was
# What a damaged page, or facts that are not what an audit writes, can raise.
UNREADABLE = (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError, OSError, duckdb.Error)
_SHOWN = 60  # letters of a text that differs


@dataclass(frozen=True)
class Verification:
    """How many numbers the report holds and how many came out the same again; what differs; files looked at and found bad.

    later: facts of the run that came after the report, which are left out of all that is asked again. absent: earlier runs of the
    audit whose numbers the report shows and that are not in this warehouse, so that nobody can ask them again here. maker: what
    made the report, where that is another version and its letters are not those that this one writes; None where they were
    compared. Of an archive also its digest, and who signed it (None: nobody did); vouched: by the key that was given. reasons:
    why files of an archive are bad, by name.
    """

    run_id: str
    numbers: int
    recomputed: int
    mismatches: list[str]
    files: int
    bad_files: list[str]
    later: list[str] = field(default_factory=list)
    absent: int = 0
    maker: str | None = None
    digest: str | None = None
    signer: str | None = None
    vouched: bool = False
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> State:
        """damaged: something is not as it was written; other version: the report was written by one whose letters cannot be
        compared; stale: all is as it was, and more has come since; otherwise sound."""
        differs = self.numbers != self.recomputed or bool(self.mismatches)
        if self.bad_files or self.numbers == 0 or (differs and self.maker is None):
            return "damaged"
        if self.maker is not None:
            return "other version"
        return "stale" if self.later else "sound"

    @property
    def sound(self) -> bool:
        return self.state == "sound"

    @property
    def this(self) -> str:
        """What verified it."""
        return made_by()

    @property
    def stale(self) -> str:
        """Why the report is stale, and the way out: it is older than 2 reviews; write it again with …"""
        counts = Counter(name.split("/")[1] for name in self.later)  # by fact
        words = {fact: WORDS.get(fact, (f"file of {fact}", f"files of {fact}")) for fact in counts}
        parts = [f"{n} {words[fact][n > 1]}" for fact, n in counts.items()]
        return f"the report is older than {listed(parts)}; run `cfx report {self.run_id}`"


def verify(root: Path, run_id: str) -> Verification:
    """Make a report again, compare the whole of it, run every query of it on the rows themselves, and hash every file.

    All from the facts that were there when it was written. Raises UserError where there is no report of that run.
    """
    path = report_path(root, run_id)
    if not path.is_file() or not hashes_path(root, run_id).is_file():
        raise UserError(f"there is no report of {run_id!r} in {root}; write it with `cfx report {run_id}`")
    page, later = path.read_bytes(), later_files(root, run_id)
    files, bad = _files(root, run_id, page)
    text, absent = page.decode(errors="replace"), 0
    maker = maker_of(text)
    differing, counted, same = list[str](), 0, 0
    try:
        nights = read_block(text)["questions"].get("nights")
        then = Then(frozenset(later), read_evidence(nights), maker or EARLIER)
        rested = {name: digest for name, digest in read_sums(hashes_path(root, run_id)).items() if name != report_name(run_id)}
        again = made_again(root, run_id, then, facts_digest(rested))
        (counted, same, differing), absent = held_against(text, again), again.absent
    except UNREADABLE as error:
        differing = [f"the numbers cannot be read: {first_line(error)}"]
    other = (maker or EARLIER) if differing and counted and maker != made_by() else None
    if differing and other is None and not bad:
        bad = [report_name(run_id)]
    return Verification(run_id, counted, same, differing, files, bad, later, absent, other)


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


@dataclass(frozen=True)
class Again:
    """A report made again: the page; every number of its queries, asked of the rows themselves; of the earlier runs whose numbers
    it shows those that are here to be asked, and how many are not."""

    page: str
    answers: Answers
    earlier: frozenset[str] = frozenset()
    absent: int = 0


def made_again(root: Path, run_id: str, then: Then, facts: str) -> Again:
    """The report from the facts, by this program's own queries alone. facts: their digest. Raises DuckDB's error for facts that
    cannot be read, and UserError, ValueError, KeyError or TypeError for those that are not what an audit writes."""
    page = report_html(root, run_id, then, facts)
    answers = ask(root, run_id, read_block(page)["questions"], then.without)
    if then.nights is None:
        return Again(page, answers)
    shown = {row["run_id"] for row in then.nights.rows}
    with closing(open_warehouse(root, sql="from runs", without=then.without, runs=shown)) as lens:
        finished = {row["run_id"] for row in fetch(lens, "select run_id from runs where status = 'finished'")}
    return Again(page, answers, frozenset(shown & finished), len(shown - finished))


def held_against(page: str, again: Again) -> tuple[int, int, list[str]]:
    """How many numbers a page holds, in its JSON and for readers, how many are those of the page made again, and what differs."""
    read = Page(page)
    counted, same, differing = compare(_of_runs_there(read.content["questions"], again), again.answers)
    if page == again.page:
        return counted + len(read.seen), same + len(read.seen), differing
    seen, anew = read.seen, Page(again.page).seen
    pairs = list(zip(seen, anew, strict=False))
    same += sum(a == b for a, b in pairs)
    differing += [f"on the page: {a} in the report, {b} in the facts" for a, b in pairs if a != b][:10]
    if len(seen) != len(anew):
        differing.append(f"on the page: {len(seen)} numbers in the report, {len(anew)} from the facts")
    return counted + len(seen), same, differing or [first_difference(page, again.page)]


def first_difference(text: str, again: str) -> str:
    """Where two texts part, in words, with what stands there: for a person to find it."""
    for number, (a, b) in enumerate(zip_longest(text.split("\n"), again.split("\n"), fillvalue=""), 1):
        if a != b:
            at = next(i for i, (x, y) in enumerate(zip_longest(a, b)) if x != y)
            start = max(0, at - _SHOWN // 3)
            shown = [unescape(line[start : start + _SHOWN]) for line in (a, b)]
            return f"line {number}: {shown[0]!r} in the file, {shown[1]!r} from the facts"
    return "nothing"


def first_line(error: BaseException) -> str:
    """What an error says, or its name where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _of_runs_there(questions: Questions, again: Again) -> Questions:
    """The same without the numbers of earlier runs that are not there to be asked."""
    nights = questions.get("nights")
    if nights is None:
        return questions
    return {**questions, "nights": {"rows": [row for row in nights["rows"] if row["run_id"] in again.earlier]}}


def ask(root: Path, run_id: str, questions: Questions, without: Collection[str] = ()) -> Answers:
    """Every number of these queries' answers, from the rows of the facts. The queries have to be this program's own.

    without: files that came after that.
    """
    nights = [row["run_id"] for row in questions.get("nights", {}).get("rows", [])]
    runs = with_bases(root, [run_id, *nights])
    with closing(open_warehouse(root, from_rows=True, without=without, runs=runs)) as lens:
        settle(lens, run_id)
        return {name: dict(numbers(fetch(lens, question["sql"]))) for name, question in questions.items()}


def compare(questions: Questions, answers: Answers) -> tuple[int, int, list[str]]:
    """How many numbers these answers hold as they were written down, how many are the same now, and what differs."""
    counted, same, differing = 0, 0, []
    for name in [*questions, *(name for name in answers if name not in questions)]:
        before, now = dict(numbers(questions.get(name, {}).get("rows"))), answers.get(name, {})
        for place, value in before.items():
            counted += 1
            if place in now and _same(now[place], value):
                same += 1
            else:
                differing.append(f"{name}{place}: {value!r} in the report, {now.get(place, 'nothing')!r} in the facts")
        differing += [f"{name}{place}: missing in the report" for place in now.keys() - before.keys()]
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
        "reasons": found.reasons,
        "later_files": found.later,
        "earlier_runs_absent": found.absent,
        "other_version": found.maker,
        "digest": found.digest,
        "signed_by": found.signer,
        "signer_is_the_key_given": found.vouched,
    }
