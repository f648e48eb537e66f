"""Events of a run, and runs of a warehouse, follow each other as they happened, whatever the clocks said."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app
from tasks.config import AuditConfig
from tasks.reading.publishing import Publishing, publish_failure
from tasks.run import Run
from tasks.stages import run_record
from warehouse.lens.connect import query
from warehouse.lens.prune import expired
from warehouse.lens.runs import NEWEST_FIRST, resolve

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
AHEAD = NOW + timedelta(days=365)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """What the clock says: its last entry."""
    says = [NOW]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return says[-1]

    monkeypatch.setattr(run_record, "datetime", Clock)
    return says


def run_called(root: Path, run_id: str) -> Run:
    """A run whose events can be written; nothing that it names is there."""
    settings = {"name": "trial", "warehouse": root, "data": {"images": root}, "classifier": {"weights": "portraits:planted"}}
    return Run(AuditConfig.model_validate(settings), run_id, "cpu", ("no", "yes"), {}, None)


def status(root: Path, run_id: str = "trial-1") -> Any:
    (row,) = query(root, "select status, reason from runs where run_id = $run", {"run": run_id}).to_pylist()
    return row["status"], row["reason"]


def test_a_run_that_failed_while_the_clock_was_ahead_is_finished_by_the_next_try(tmp_path: Path, clock: list[datetime]) -> None:
    run = run_called(tmp_path, "trial-1")
    run_record.start_run(run)
    assert status(tmp_path) == ("started", None)
    clock.append(AHEAD)
    run_record.fail_run(run, "no room")
    assert status(tmp_path) == ("failed", "no room")
    clock.append(NOW + timedelta(hours=1))
    done = run_record.finish_run(run)
    assert status(tmp_path) == ("finished", None)
    assert run_record.finish_run(run) == done, "it is finished: nothing is to be written"
    clock.append(NOW - timedelta(days=1))
    run_record.fail_run(run, "no report")
    assert status(tmp_path) == ("failed", "no report")
    assert run_record.finish_run(run) != done and status(tmp_path) == ("finished", None)


def test_the_newest_run_is_the_one_that_began_last(
    tmp_path: Path, clock: list[datetime], caplog: pytest.LogCaptureFixture
) -> None:
    for run_id, moment in (("trial-1", AHEAD), ("trial-2", NOW), ("trial-3", NOW - timedelta(days=1))):
        clock.append(moment)
        run = run_called(tmp_path, run_id)
        run_record.start_run(run)
        run_record.finish_run(run)
    assert "run trial-1 says that it began on 2027-05-01 12:00 UTC, which is to come" in caplog.text
    assert resolve(tmp_path, "latest") == "trial-3"
    newest_first = query(tmp_path, f"select run_id from runs order by {NEWEST_FIRST}")["run_id"].to_pylist()
    assert newest_first == ["trial-3", "trial-2", "trial-1"]
    bases = query(tmp_path, "select run_id, base_id from bases order by run_id").to_pylist()
    assert [(row["run_id"], row["base_id"]) for row in bases] == [("trial-2", "trial-1"), ("trial-3", "trial-2")]
    assert "trial-3" not in expired(tmp_path, 0, 1, AHEAD + timedelta(days=1)), "the newest one stays"


def test_a_failure_is_told_with_its_reason_and_to_prometheus_without_numbers(tmp_path: Path) -> None:
    run = run_called(tmp_path, "trial-1")
    run_record.start_run(run)
    run_record.fail_run(run, "no room on [device]")
    shown = CliRunner().invoke(app, ["runs", "-w", str(tmp_path)]).stdout.splitlines()
    assert "failed" in shown[1] and shown[2] == "trial-1 failed: no room on [device]"
    wanted = Publishing.model_validate({"prometheus": {"file": tmp_path / "trial.prom"}})
    publish_failure(tmp_path, "trial-1", wanted, logging.getLogger("trial"))
    lines = [line for line in (tmp_path / "trial.prom").read_text().splitlines() if not line.startswith("#")]
    assert 'cfx_audit_succeeded{audit="trial"} 0.0' in lines
    assert {line.partition("{")[0] for line in lines} == {
        "cfx_audit_info", "cfx_audit_finished_timestamp_seconds", "cfx_audit_succeeded",
    }  # fmt: skip
