"""Is an archive still what `cfx export` wrote? Its facts are laid out in a fresh place and everything else is made of them again.

Nothing that the archive says is run or trusted: queries and templates are this program's own, and the bytes of every file that is
no fact have to be those that are made again. What no fact says (`contents.Claims`) stands in two files, which have to agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cfx.errors import UserError
from warehouse.evidence import signature as signatures
from warehouse.evidence import zip_form
from warehouse.evidence.contents import (
    CONFIG,
    README,
    SIGNATURE,
    SUMMARY,
    SUMS,
    Claims,
    digest_of,
    fact_of,
    hash_of,
    listed_facts,
    made_files,
    most_bytes,
    read_claims,
    report_of,
    sums_of,
)
from warehouse.evidence.fact_limits import BeyondLimits, fault_of
from warehouse.evidence.results import read_results
from warehouse.evidence.verify import (
    EARLIER,
    UNREADABLE,
    Again,
    Verification,
    first_difference,
    first_line,
    held_against,
    made_again,
)
from warehouse.facts.schema import fact_named
from warehouse.report.embedded_numbers import read_block
from warehouse.report.hashes import facts_digest, hashes_of, other_runs, read_sums
from warehouse.report.made_by import made_by, maker_of
from warehouse.report.nights import read_evidence
from warehouse.report.render import Then

_FACTS = re.compile(r'<meta name="facts" content="(sha256:[0-9a-f]{64})">')


@dataclass(frozen=True)
class Remade:
    """What is made of an archive's facts: its report with every number asked again, and all files that are no facts, by name."""

    report: Again
    files: dict[str, bytes]


Remake = Callable[[Path, str, Mapping[str, str], Claims], Remade]


class StrangeFact(UserError):
    """A fact of a run on which the report does not rest."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is of a run that this report does not rest on")
        self.name = name


def remake(root: Path, run_id: str, facts: Mapping[str, str], claims: Claims) -> Remade:
    """Make the files of an archive of its facts. facts: their hashes by file.

    Raises StrangeFact, and what `verify.made_again` raises.
    """
    together = {run_id, *other_runs(root, run_id)}
    for name in facts:
        if name.split("/")[2].removeprefix("run_id=") not in together:
            raise StrangeFact(name)
    then = Then(frozenset(), read_evidence(claims.earlier), claims.made_by or EARLIER)
    report = made_again(root, run_id, then, facts_digest(facts))
    page = report.page.encode()
    made = made_files(read_results(root, run_id), facts, claims)
    return Remade(report, made | {f"reports/{run_id}.html": page, f"reports/{run_id}.sha256": hashes_of(run_id, page, facts)})


def verify_archive(path: Path, key: Ed25519PublicKey | None = None, again: Remake = remake) -> Verification:
    """Verify an archive in this process; `verify_process` gives it one of its own, with limits.

    key: the public key of whoever has to have signed it. Raises UserError where there is no archive, or one beyond the limits;
    MemoryError where its facts take more than this process has.
    """
    with TemporaryDirectory() as folder:
        root = Path(folder) / "archive"
        found = zip_form.unpack(path, root, most_bytes)
        run_id = _run_of(found.files)
        if run_id is None:
            bad = found.bad or {path.name: "it has no report"}
            return Verification("", 0, 0, [], len(found.files), sorted(bad), reasons=bad)
        archive = _Archive(path, root, run_id, found, key)
        archive.check_names_and_facts()
        archive.check_lists_of_facts()
        archive.check_what_is_made(again)
        archive.check_sums()
        archive.check_form(Path(folder) / "again.zip")
        archive.check_signature()
        return archive.verification()


def _run_of(files: Mapping[str, Path]) -> str | None:
    """The run that an archive is of: the one with the most of report, list of hashes and facts."""
    runs = {run for name in files if (run := report_of(name))}

    def there(run: str) -> int:
        reports = [kind for kind in ("html", "sha256") if f"reports/{run}.{kind}" in files]
        return len(reports) + any(fact_of(name) == ("runs", run) for name in files)

    return max(sorted(runs), key=there, default=None)


@dataclass
class _Archive:
    """An archive on its way through the checks. bad: what is wrong, by file, with the reason; the first one found stays."""

    path: Path
    root: Path
    run_id: str
    found: zip_form.Unpacked
    key: Ed25519PublicKey | None
    bad: dict[str, str] = field(default_factory=dict)
    made: frozenset[str] = frozenset()  # files that are, letter for letter, what is made again
    numbers: tuple[int, int, list[str]] = (0, 0, [])
    absent: int = 0
    maker: str | None = None
    signer: str | None = None

    def __post_init__(self) -> None:
        self.bad |= self.found.bad
        self.files = self.found.files
        self.page, self.list = f"reports/{self.run_id}.html", f"reports/{self.run_id}.sha256"
        self.hashes = {name: hash_of(file) for name, file in self.files.items()}
        self.facts = {name: self.hashes[name] for name in self.files if fact_of(name)}
        self.listed = {name: read_sums(self.files[name]) if name in self.files else {} for name in (SUMS, self.list)}
        self.text = self.files[self.page].read_bytes().decode(errors="replace") if self.page in self.files else ""

    def blame(self, name: str, reason: str) -> None:
        self.bad.setdefault(name, reason)

    def check_names_and_facts(self) -> None:
        """Each file is one that export writes, none of these is missing, and each fact is whole and of bounded size."""
        always = (README, CONFIG, SUMMARY, SUMS, self.page, self.list)
        for name in self.files:
            named = fact_of(name)
            if named is None and name not in (*always, SIGNATURE):
                self.blame(name, f"`cfx export` writes no such file beside a report of {self.run_id}")
            elif named and (fault := self._fault_of(name, named[0])):
                self.blame(name, fault)
        for name in always:
            if name not in self.files:
                self.blame(name, "it is missing")

    def _fault_of(self, name: str, fact: str) -> str | None:
        try:
            return fault_of(self.files[name], fact_named(fact))
        except BeyondLimits as error:
            raise UserError(
                f"{self.path}, {name}: {error}; so large an audit is verified in its own warehouse: cfx verify {self.run_id}"
            ) from error

    def check_lists_of_facts(self) -> None:
        """SHA256SUMS, the report's list and the summary name the facts that are there; the page's digest tells who errs."""
        lists = {name: {file: digest for file, digest in sums.items() if fact_of(file)} for name, sums in self.listed.items()}
        if SUMMARY in self.files:
            summed = listed_facts(self.files[SUMMARY].read_bytes())
            lists[SUMMARY] = {file: digest for file, digest in summed.items() if fact_of(file)}
        lists = {name: sums for name, sums in lists.items() if sums and name not in self.bad}
        digest = _FACTS.search(self.text[:10_000])
        vouched = digest is not None and digest[1] == facts_digest(self.facts)
        at_odds = [
            (file, name)
            for name, sums in lists.items()
            for file in sorted({*self.facts, *sums})
            if self.facts.get(file) != sums.get(file)
        ]
        for file, name in at_odds:
            if vouched:
                self.blame(name, f"it is at odds with {file}")
            else:
                self.blame(file, f"it is not the file that {name} names" if file in self.facts else "it is missing")
        if digest is not None and not vouched and not at_odds and not self._facts_are_bad():
            self.blame(self.page, "it was made of other facts than these")

    def check_what_is_made(self, again: Remake) -> None:
        """Report, summary, card and configuration are what is made of the facts; not tried where facts are not as they were."""
        if self._facts_are_bad():
            return
        claims = self._claims()
        if claims is None:
            return
        try:
            remade = again(self.root, self.run_id, self.facts, claims)
        except StrangeFact as error:
            return self.blame(error.name, "it is of a run that the report does not rest on")
        except (MemoryError, duckdb.OutOfMemoryException) as error:
            raise MemoryError(str(error)) from error
        except Exception as error:  # a stranger's facts: they may be anything that has the right columns
            return self.blame(self.page, f"nothing can be made of the facts again: {type(error).__name__}: {first_line(error)}")
        files = {name: self.files[name].read_bytes() for name in remade.files if name in self.files}
        self.made = frozenset(name for name, content in files.items() if content == remade.files[name])
        self.absent = remade.report.absent
        try:
            self.numbers = held_against(self.text, remade.report)
        except UNREADABLE as error:
            self.blame(self.page, f"its numbers cannot be read: {first_line(error)}")
        differing = {name for name in files if name not in self.made}
        if self.list in differing and files[self.list] == hashes_of(self.run_id, files.get(self.page, b""), self.facts):
            differing.remove(self.list)  # it fits the page as it is, which is told
        if differing and claims.made_by != made_by():
            self.maker = claims.made_by or EARLIER
            return
        for name in sorted(differing):
            there, anew = (content.decode(errors="replace") for content in (files[name], remade.files[name]))
            self.blame(name, f"it is not what the facts give: {first_difference(there, anew)}")

    def check_sums(self) -> None:
        """SHA256SUMS is the list of all files. Where it is at odds with a file that is known to be right, it errs itself."""
        if SUMS in self.bad:
            return
        sums = self.listed[SUMS]
        at_odds = [name for name in {*sums, *self.hashes} - {SUMS, SIGNATURE} if sums.get(name) != self.hashes.get(name)]
        for name in sorted(at_odds):
            if name in self.made or name not in self.hashes or fact_of(name):
                if name not in self.bad:
                    self.blame(SUMS, f"it is at odds with {name}")
            else:
                self.blame(name, f"it is not the file that {SUMS} names")
        if not at_odds and self.files[SUMS].read_bytes() != sums_of(self.hashes):
            self.blame(SUMS, "it is not as `cfx export` writes it")

    def check_form(self, scratch: Path) -> None:
        """The archive's own bytes are those that these files make; of an earlier version that deflated them, nobody can tell."""
        if self.bad:
            return
        if self.found.deflated:
            if self.maker is None:
                self.blame(self.path.name, "it is deflated, which `cfx export` does not do")
        elif differing := zip_form.first_difference(self.path, self.files, scratch):
            self.blame(*differing)

    def check_signature(self) -> None:
        """A signature is one of this content, and there is one if a key was given."""
        if SIGNATURE in self.files:
            try:
                self.signer = signatures.check(self.digest, self.files[SIGNATURE].read_bytes(), self.key)
            except UserError as error:
                self.blame(SIGNATURE, str(error))
        elif self.key is not None:
            self.blame(SIGNATURE, "it is missing: nobody signed this archive")

    @property
    def digest(self) -> str:
        """Of what is there, whatever SHA256SUMS says."""
        return digest_of(sums_of(self.hashes))

    def verification(self) -> Verification:
        counted, same, differing = self.numbers
        return Verification(
            self.run_id,
            counted,
            same,
            differing,
            len(self.files),
            sorted(self.bad),
            absent=self.absent,
            maker=self.maker,
            digest=self.digest,
            signer=self.signer,
            vouched=self.signer is not None and self.key is not None,
            reasons=dict(sorted(self.bad.items())),
        )

    def _facts_are_bad(self) -> bool:
        return any(fact_of(name) for name in self.bad)

    def _claims(self) -> Claims | None:
        """What page and summary claim; where one of them cannot be read it is told, and the other is believed."""
        said = []
        if SUMMARY in self.files:
            try:
                said.append(read_claims(self.files[SUMMARY].read_bytes()))
            except UserError as error:
                self.blame(SUMMARY, str(error))
        try:
            said.append(Claims(maker_of(self.text), read_block(self.text)["questions"].get("nights")))
        except UNREADABLE as error:
            self.blame(self.page, f"its numbers cannot be read: {first_line(error)}")
        if len(said) == 2 and said[0] != said[1] and said[0] != Claims(None, None):
            self.blame(SUMMARY, f"it does not say the same as {self.page} of what made it, or of earlier runs")
            self.blame(self.page, f"it does not say the same as {SUMMARY} of what made it, or of earlier runs")
        return said[-1] if said else None
