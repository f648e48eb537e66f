"""The gate in plain words: points and percent first, a true minus, statistics behind; JUnit as junitparser reads it."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from junitparser import Error, Failure, JUnitXml

from tasks.reading.release_checks import heading, in_words, junit, name, summary
from warehouse.lens.gate import verdict_of

ROOT = Path(__file__).parents[2]


def rule(kind: str, result: str, value: float | None = None, limit: float | None = None, **more: Any) -> dict[str, Any]:
    known = {"rule": kind, "subject": None, "result": result, "value": value, "threshold": limit, "low": None, "high": None}
    return known | {"n": 128, "images_needed": None, "reason": f"the {kind}", "verdict": "fail"} | more


GLASSES = rule(
    "effect",
    "fail",
    0.2328,
    0.15,
    subject="glasses",
    low=0.1127,
    high=0.353,
    reason="glasses effect +23.3 points (95% interval +11.3 to +35.3), limit 15; confirmed by explanations and edits",
)
BEARD = rule("effect", "inconclusive", -0.0151, 0.15, subject="beard", images_needed=1200, low=-0.2, high=0.1)
AUDIT = rule("audit", "pass", reason="the audit finished")
FLIPS = rule("flip rate", "pass", 1.0, 0.8, low=0.971, high=1.0)
FOUND = verdict_of("smile-2f8c55f97c", [AUDIT, FLIPS, GLASSES, BEARD])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (GLASSES, "glasses effect 23 points, limit 15"),
        (GLASSES | {"value": -0.2328}, "glasses effect −23 points, limit 15"),
        (GLASSES | {"value": 0.1504}, "glasses effect 15.04 points, limit 15"),
        (GLASSES | {"value": 0.08}, "glasses effect 8.0 points, limit 15; confirmed, and no confirmed attribute passes"),
        (BEARD, "beard effect −1.5 points, limit 15; too few images, about 1,200 needed"),
        (BEARD | {"images_needed": None, "reason": "a; not edited"}, "beard effect −1.5 points, limit 15; not edited"),
        (BEARD | {"value": None, "reason": "no edit of it counts"}, "no edit of it counts"),
        (AUDIT, "the audit finished"),
        (FLIPS, "flip rate 100.0%, at least 80% required"),
        (
            FLIPS | {"value": 0.5, "result": "inconclusive"},
            "flip rate 50.0%, at least 80% required; the audit is too weak to clear anything",
        ),
        (rule("cd rise", "fail", 0.7, 0.5, reason="CD 1.2, 0.5 in the base"), "CD 1.2, 0.5 in the base"),
        (rule("new rule", "fail", 1, reason="12% (95% interval 8% to 15%), limit 10%"), "12%, limit 10%"),
    ],
)
def test_a_check_in_plain_words(row: dict[str, Any], words: str) -> None:
    assert in_words(row) == words


def test_a_check_keeps_its_name_from_run_to_run() -> None:
    rows = (GLASSES, AUDIT, rule("property", "pass", subject="warmth"), rule("explained", "pass", subject="smiling"))
    assert [name(row) for row in rows] == ["glasses effect", "audit", "property warmth", "explained share of “smiling”"]


def test_the_heading_is_the_verdict_and_what_decided_it() -> None:
    assert heading(FOUND) == "Release check failed: glasses effect 23 points, limit 15"
    hat = GLASSES | {"subject": "hat", "value": 0.4}
    assert heading(verdict_of("run", [GLASSES, hat, AUDIT])) == heading(FOUND) + ", and 1 more"
    passed = AUDIT | {"verdict": "pass"}
    assert heading(verdict_of("run", [passed, passed])) == "Release check passed: all 2 checks"


def test_junit_is_read_by_junitparser() -> None:
    xml = JUnitXml.fromfile(io.BytesIO(junit(FOUND).encode()))
    [suite] = list(xml)
    assert (suite.name, suite.tests, suite.failures, suite.errors) == (heading(FOUND), 4, 1, 1)
    assert {one.name: one.value for one in suite.properties()} == {
        "run": "smile-2f8c55f97c",
        "verdict": "fail",
        "images_needed": "1200",
    }
    cases = {case.name: case for case in suite}
    assert {case.classname for case in cases.values()} == {"smile"}
    [failure], [error] = cases["glasses effect"].result, cases["beard effect"].result
    assert isinstance(failure, Failure) and failure.message == in_words(GLASSES) and failure.text == GLASSES["reason"]
    assert isinstance(error, Error) and "too few images" in error.message
    assert [cases[passed].is_passed for passed in ("audit", "flip rate")] == [True, True]


def test_a_summary_has_plain_words_first_and_statistics_folded() -> None:
    plain, _, folded = summary(FOUND).partition("<details>")
    assert plain.startswith("## Release check failed: glasses effect 23 points, limit 15\n")
    assert "1 failed, 1 inconclusive, 2 passed" in plain and "### All 4 release checks" in plain
    assert plain.index("| failed |") < plain.index("| inconclusive |") < plain.index("| passed |")
    assert "interval" not in plain and "0.2" not in plain
    assert "| glasses effect | +23.3 | +11.3 to +35.3 | 15.0 | 128 |" in folded and folded.rstrip().endswith("</details>")
    assert "| flip rate | 100.0% | 97.1% to 100.0% | 80.0% | 128 |" in folded


STEPS = yaml.safe_load((ROOT / "examples" / "ci.yaml").read_text(encoding="utf-8"))["jobs"]["audit"]["steps"]


@pytest.mark.parametrize("code", [0, 1])
def test_the_ci_example_does_not_lose_a_failed_audit(tmp_path: Path, code: int) -> None:
    """Its step in the shell that GitHub runs it in: without pipefail."""
    audit = tmp_path / "cfx"
    audit.write_text(f'#!/bin/sh\necho a line\necho \'{{"run_id": "r"}}\'\nexit {code}\n')
    audit.chmod(0o755)
    [step] = [step["run"] for step in STEPS if step.get("name") == "audit"]
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    ended = subprocess.run(["bash", "-e", "-c", step], cwd=tmp_path, env=path, capture_output=True, text=True)
    assert ended.returncode == code, ended.stderr
    assert code or (tmp_path / "found.json").read_text() == '{"run_id": "r"}\n'


def test_the_ci_example_keeps_report_and_junit_whatever_happened() -> None:
    [kept] = [step for step in STEPS if "upload-artifact" in step.get("uses", "")]
    assert kept["if"] == "always()" and kept["with"]["path"].split() == ["gate.xml", "warehouse-data/reports"]
    [gate] = [step["run"] for step in STEPS if "cfx gate" in step.get("run", "")]
    assert '--junit gate.xml --summary "$GITHUB_STEP_SUMMARY"' in gate
