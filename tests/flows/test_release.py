"""What a finished audit says in Prefect: how its run ends by the policy, its message, and its artifacts' words and numbers."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from portrait_run import write_portrait_run

from flows.artifacts import scorecard, verdict_page
from flows.release import Release, read_release
from tasks.reading.gate import Policy, gate, policy_of, set_policy
from tests.runs import run_of
from warehouse.facts.shards import write_shard
from warehouse.report.render import report_path, write_report

LINK = "https://host/reports/planted-run.html"
RUNS: dict[str, dict[str, Any]] = {"planted-run": {"n": 64}, "small-run": {"n": 20}}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse of two runs, each held to the default policy, with its report."""
    root = tmp_path_factory.mktemp("warehouse")
    for run_id, options in RUNS.items():
        write_portrait_run(root, run_id, size=16, names={"hat": "<b>|hat"}, **options)
        set_policy(root, run_id, Policy())
        write_report(root, run_id)
    return root


def release_of(root: Path, run_id: str, **settings: Any) -> Release:
    return read_release(run_of(root, run_id, **settings), report_path(root, run_id))


@pytest.mark.parametrize(
    ("run", "policy", "outcome", "begins"),
    [
        ("planted-run", {}, "fail", "Release check failed: glasses effect +"),
        ("planted-run", {"on_fail": "warn", "on_inconclusive": "fail"}, "warn", "Release check failed, a warning only: glasses"),
        ("small-run", {}, "inconclusive", "Release check inconclusive: 20 images audited, at least 64 required, and "),
        ("small-run", {"on_inconclusive": "fail", "on_fail": "warn"}, "fail", "Release check inconclusive: 20 images"),
    ],
)
def test_the_policy_says_how_a_run_ends_and_the_message_why(
    reported: Path, run: str, policy: dict[str, str], outcome: str, begins: str
) -> None:
    set_policy(reported, run, Policy.model_validate(policy))
    release = release_of(reported, run)
    assert release.outcome == outcome and release.message.startswith(begins)
    assert release.details["verdict"] == release.gate.verdict and release.details["reasons"] == list(release.gate.reasons)


def test_the_page_has_the_verdict_first_and_a_link_that_is_one(reported: Path) -> None:
    release = release_of(reported, "planted-run", report_url="https://host/reports/")
    page = verdict_page(release)
    head, reasons, headline = page.split("\n\n")[:3]
    assert head == "## Release check failed" and reasons == f"- {release.gate.reasons[0]}"
    assert headline == f"**{release.verdict.headline}.**" and "relies on glasses" in headline
    assert re.search(r"- Worst group: \w+ with(out)? .*: \d+\.\d% right of \d+ images", page)
    assert f"- Report: [open]({LINK})" in page and page.count("\n| ") == len(release.gate.rules) + 1
    assert "<b>" not in page and release.details["report"] == LINK


def test_people_read_their_own_names_and_machines_those_of_the_data(reported: Path) -> None:
    release = release_of(reported, "planted-run", labels={"glasses": "spectacles"})
    assert release.message.startswith("Release check ") and "spectacles effect" in release.message
    assert "- spectacles effect" in verdict_page(release) and "glasses effect" not in verdict_page(release)
    assert "glasses effect" in release.details["reasons"][0]


def test_without_an_address_it_says_where_the_file_lies(reported: Path) -> None:
    release = release_of(reported, "planted-run")
    assert release.link is None and "](" not in verdict_page(release)
    path, machine = release.file.split(" on ")
    assert Path(path).is_file() and machine and f"- Report: the file `{path} on " in verdict_page(release)


def test_numbers_of_the_scorecard_are_read_at_a_glance(reported: Path) -> None:
    release = release_of(reported, "planted-run")
    shown = scorecard(release)
    assert len(shown) == len(release.scores) > 5 and shown[0]["measure"] == "Flip rate" and shown[0]["value"].endswith("%")
    assert all(len(re.sub(r"\D", "", row["value"]).lstrip("0")) <= 4 for row in shown), shown


def test_a_policy_of_before_these_settings_has_their_defaults_and_is_not_written_again(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "old-run", n=4, size=16)
    before = Policy(maximum_effect=0.3).model_dump(exclude={"explained", "on_fail", "on_inconclusive"})
    row = before | {"base": None, "written": datetime.now(UTC)}
    write_shard(tmp_path, "policies", "old-run", "before", {name: [value] for name, value in row.items()})
    assert policy_of(tmp_path, "old-run") == (Policy(maximum_effect=0.3), None)
    gate(tmp_path, "old-run")
    assert len(list(tmp_path.glob("facts/policies/*/*.parquet"))) == 1
