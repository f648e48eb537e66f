"""What an audit ends with on the terminal: what it found, whether it passes, how good the classifier is, and what to do next."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.demo import findings
from warehouse.lens.connect import query
from warehouse.lens.fetch import Row
from warehouse.lens.gate import IN_WORDS, Gate, gate
from warehouse.lens.key_figures import key_figures
from warehouse.lens.runs import run_ids, short_ids
from warehouse.report.formatting import count, percent
from warehouse.report.layers import left_out
from warehouse.report.names import Names
from warehouse.report.render import report_path
from warehouse.report.verdict import Verdict, read_verdict

DECIDING = ("labels", "attributes", "counterfactuals")  # layers without which nothing is confirmed or cleared
RECORD = "select config, config ->> '$.classifier.access' as access from runs where run_id = $run"
LAYERS = "from layers where run_id = $run order by place"


@dataclass(frozen=True)
class Outcome:
    """A finished run. found: of `flows.demo.findings`; figures: of `key_figures`; layers: rows of that view."""

    root: Path
    run: str
    found: dict[str, Any]
    verdict: Verdict
    gate: Gate
    figures: Row
    layers: list[Row]
    trainable: bool  # whether `cfx repair` can train the classifier on
    names: Names  # what people call classes and attributes

    @property
    def report(self) -> Path:
        """Where its page is."""
        return report_path(self.root, self.run)


def read_outcome(root: Path, run: str) -> Outcome:
    """What a finished run comes to. Raises UserError for an unknown run, or one without a policy."""
    layers = query(root, LAYERS, {"run": run}).to_pylist()
    found, said, release, figures = findings(root, run), read_verdict(root, run), gate(root, run), key_figures(root, run)
    [record] = query(root, RECORD, {"run": run}).to_pylist()
    return Outcome(root, run, found, said, release, figures, layers, record["access"] == "torch", Names.of(record))


def lines_of(outcome: Outcome) -> list[str]:
    """The last lines: verdict, release check with its first reason, accuracy and worst group, report, next step."""
    said, release = outcome.verdict, outcome.gate
    first, *more = release.reasons
    others = f"; and {len(more)} more" if more else ""
    why = f"all {len(release.rules)} of them" if release.verdict == "pass" else outcome.names.text(first)
    lines = [f"{said.kind}: {said.headline}", f"release check: {IN_WORDS[release.verdict]}, {why}{others}"]
    lines += [accuracy] if (accuracy := _accuracy(outcome.figures, outcome.names)) else []
    return [*lines, f"report: {outcome.report}", f"next: {next_step(outcome)}"]


def _accuracy(figures: Row, names: Names) -> str | None:
    whole, worst = figures["accuracy"], figures["worst_group"]
    if whole is None:
        return None
    line = f"accuracy: {percent(whole['value'])} of {count(whole['n'])} images"
    if worst is None or worst["accuracy"] >= whole["value"]:
        return line
    who = f"{names(worst['label'])} {'with' if worst['present'] else 'without'} {names(worst['attribute'])}"
    return f"{line}; worst group: {who}, {percent(worst['accuracy'])} of {count(worst['n'])}"


def next_step(outcome: Outcome) -> str:
    """One thing to do or to look at."""
    run, where = short_ids(run_ids(outcome.root))[outcome.run], f"-w {shlex.quote(str(outcome.root))}"
    found, missing = outcome.found, left_out(outcome.layers)
    named = [row["attribute"] for row in found["attributes"] if row["verdict"] == "confirmed"]
    needed = outcome.gate.images_needed
    if outcome.verdict.kind == "finding" and named and outcome.trainable:
        return f"see it in the report's images; `cfx repair {run} {where}` trains the classifier to do without it"
    if outcome.verdict.kind == "finding":
        return f"see in the report's images what it reacts to, or browse them: `cfx serve {where}`"
    if outcome.verdict.kind == "inconclusive" and missing and missing[0]["layer"] in DECIDING:
        return f"add `{missing[0]['line']}` to the settings, which adds {missing[0]['adds']}"
    if needed is not None and needed > (outcome.figures["accuracy"] or {"n": 0})["n"]:
        return f"audit about {needed:,} images, which would decide what is open"
    if outcome.gate.verdict != "pass":
        return f"`cfx gate {run} {where}` lists every release check and what it lacks"
    return f"hold the next version to this one: `cfx gate RUN --against {run} {where}`"


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Everything, for machines."""
    said, release = outcome.verdict, outcome.gate
    named = {"run": outcome.run, "verdict": said.kind, "headline": said.headline, "gate": release.verdict}
    more = {"reasons": release.reasons, "report": str(outcome.report), "next": next_step(outcome), "layers": outcome.layers}
    return outcome.found | named | more | outcome.figures
