"""What a finished audit says outside of its report: verdict, release check, what follows from it, and where the report is."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.reading.gate import Policy, policy_of
from tasks.reading.report_url import report_link
from tasks.run import Run
from warehouse.lens.fetch import Row
from warehouse.lens.gate import IN_WORDS, Gate, verdict_of
from warehouse.report.embedded_numbers import Page
from warehouse.report.names import Names
from warehouse.report.verdict import RESTS_ON, Verdict, verdict_from


@dataclass(frozen=True)
class Release:
    """May this classifier ship, in the words and by the numbers of the run's report."""

    audit: str  # its name
    run_id: str
    verdict: Verdict
    gate: Gate
    policy: Policy
    worst: Row | None  # of the view `worst_groups`, the first that the report shows
    scores: tuple[Row, ...]  # of the scorecard
    link: str | None  # http or https
    file: str  # where the report lies, with the machine unless it is a URL
    names: Names  # what people call classes and attributes

    @property
    def outcome(self) -> Literal["pass", "fail", "warn", "inconclusive"]:
        """`fail` if a deployment's run ends Failed; `warn` where a rule is broken and the policy lets the run pass."""
        says: dict[str, Literal["fail", "warn"]] = {"fail": self.policy.on_fail, "inconclusive": self.policy.on_inconclusive}
        if self.gate.verdict == "pass":
            return "pass"
        if says[self.gate.verdict] == "fail":
            return "fail"
        return "warn" if self.gate.verdict == "fail" else "inconclusive"

    @property
    def message(self) -> str:
        """Release check failed: glasses effect +23.3 points (…), limit 15, and 2 more"""
        first, *more = self.gate.reasons
        only = ", a warning only" if self.outcome == "warn" else ""
        why = self.names.text(first)
        return f"Release check {IN_WORDS[self.gate.verdict]}{only}: {why}{f', and {len(more)} more' if more else ''}"

    @property
    def details(self) -> dict[str, Any]:
        """For events: plain values."""
        return {
            "run": self.run_id,
            "verdict": self.gate.verdict,
            "headline": self.verdict.headline,
            "reasons": list(self.gate.reasons),
            "report": self.link or self.file,
        }


def read_release(run: Run, report: Path) -> Release:
    """The release of a run whose report is written: of the page's own rows, so that the two cannot disagree."""
    questions = Page(report.read_text(encoding="utf-8")).content["questions"]
    answers = {name: questions[name]["rows"] for name in RESTS_ON}
    policy, _ = policy_of(run.root, run.id)
    return Release(
        audit=run.config.name,
        run_id=run.id,
        verdict=verdict_from(answers),
        gate=verdict_of(run.id, questions["rules"]["rows"]),
        policy=policy or Policy(),
        worst=next(iter(questions["worst"]["rows"]), None),
        scores=tuple(questions["scorecard"]["rows"]),
        link=report_link(run.config.report_url, run.id),
        file=str(report) if "://" in str(report) else f"{report.absolute()} on {platform.node()}",
        names=Names(run.config.labels),
    )
