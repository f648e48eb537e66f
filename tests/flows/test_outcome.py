"""The last lines of an audit: what was found, whether it passes, how good it is, where the report is, what to do next."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import flows.commands.audit
import flows.terminal
from flows.commands.audit import print_outcome
from flows.outcome import Outcome, as_json, lines_of, next_step, read_outcome
from tasks.reading.gate import Policy, gate
from warehouse.report.verdict import Verdict

sys.path.insert(0, str(Path(__file__).parent.parent / "warehouse"))
from portrait_run import write_portrait_run


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    root = tmp_path_factory.mktemp("outcome")
    write_portrait_run(root, "planted-0123456789", n=24, size=16)
    gate(root, "planted-0123456789", Policy())
    return read_outcome(root, "planted-0123456789")


def test_the_last_lines_are_verdict_check_accuracy_report_and_next_step(outcome: Outcome) -> None:
    worst = {"label": "smiling", "attribute": "glasses", "present": True, "accuracy": 0.586, "n": 29}
    figures = outcome.figures | {"worst_group": worst}
    verdict, check, accuracy, report, following = lines_of(replace(outcome, figures=figures))
    assert verdict == f"{outcome.verdict.kind}: {outcome.verdict.headline}"
    first, *more = outcome.gate.reasons
    assert check == f"release check: {outcome.gate.verdict}, {first}; and {len(more)} more" and more
    assert accuracy == "accuracy: 100.0% of 24 images; worst group: smiling with glasses, 58.6% of 29"
    assert report == f"report: {outcome.root}/reports/planted-0123456789.html"
    assert following.startswith("next: ")


@pytest.mark.parametrize(("width", "terminal"), [(80, True), (120, True), (80, False)])
def test_nothing_unmeasured_is_listed_and_a_path_stays_in_one_line(
    outcome: Outcome, width: int, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    for module in (flows.terminal, flows.commands.audit):
        monkeypatch.setattr(module, "out", console)
    without = {"no weights: set measures.inception": ["fid", "kid"], "one seed": ["diversity"]}
    print_outcome("planted", replace(outcome, found=outcome.found | {"absent": without}))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = text.splitlines()
    assert [line for line in lines if "measured" in line] == ["not measured: 3 metrics; the report says which and why"]
    assert [line.split(":")[0] for line in lines[-5:]] == [outcome.verdict.kind, "release check", "accuracy", "report", "next"]
    assert any(line == f"report: {outcome.report}" for line in lines)
    table = [line.rstrip() for line in lines if line.startswith(("┃", "│"))]
    assert all(len(line) <= width for line in table) and not any("…" in line for line in table)


def test_the_next_step_is_what_the_outcome_asks_for(outcome: Outcome) -> None:
    confirmed = {**outcome.found, "attributes": [{"attribute": "glasses", "verdict": "confirmed"}]}
    finding, clear, undecided = (Verdict(kind, "", ()) for kind in ("finding", "clear", "inconclusive"))
    whole = [row | {"there": True} for row in outcome.layers]
    assert "cfx repair planted-0123 -w" in next_step(replace(outcome, verdict=finding, found=confirmed, trainable=True))
    assert "cfx serve" in next_step(replace(outcome, verdict=finding, found=confirmed, trainable=False))
    bare = [row | {"there": row["layer"] != "labels"} for row in whole]
    assert "label_column" in next_step(replace(outcome, verdict=undecided, layers=bare))
    few = replace(outcome.gate, verdict="inconclusive", images_needed=900)
    assert "about 900 images" in next_step(replace(outcome, verdict=undecided, layers=whole, gate=few))
    enough = replace(outcome.gate, verdict="fail", images_needed=None)
    assert "cfx gate planted-0123 -w" in next_step(replace(outcome, verdict=clear, layers=whole, gate=enough))
    passed = replace(outcome.gate, verdict="pass", images_needed=None)
    assert "--against planted-0123" in next_step(replace(outcome, verdict=clear, layers=whole, gate=passed))


def test_machines_get_all_that_they_got_and_what_people_read(outcome: Outcome) -> None:
    before = {"run_id", "flip_rate", "judge_flip_rate", "attributes", "absent", "warnings", "explained", "findings", "canary"}
    before |= {"run", "verdict", "headline", "gate", "report", "layers"}
    assert set(as_json(outcome)) >= before | {"reasons", "next", "accuracy", "worst_group"}
