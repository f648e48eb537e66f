"""docs/how-to/production.md as it stands, in real processes: from an empty folder to a scheduled audit, then kills."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.kills import SHARDS, Stack, kill_once, shards
from benchmarks.toy_audit import fact_hashes, lay_out, settings, write_settings
from warehouse.facts.storage import files_below


@pytest.mark.slow
def test_the_documented_commands_bring_up_a_scheduled_audit_and_a_person_sees_it(tmp_path: Path) -> None:
    lay_out(tmp_path, 6)
    audit = write_settings(tmp_path, settings(tmp_path, 2))
    often: dict[str, Any] = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "3", "PREFECT_WORKER_QUERY_SECONDS": "3"}
    with Stack(tmp_path, audit, **often) as stack:
        deployed = {item["name"] for item in stack.request("POST", "/deployments/filter", json={})}
        assert deployed == {"audit", "audit-gpu", "train", "benchmark"}
        stack.schedule(seconds=5)
        assert stack.ended(stack.scheduled()) == "COMPLETED", (tmp_path / "stack.log").read_text()[-5000:]
        kinds = {item["key"]: item["type"] for item in stack.request("POST", "/artifacts/filter", json={})}
        (audit_run,) = stack.request("POST", "/flow_runs/filter", json={"flows": {"name": {"any_": ["audit"]}}})
    assert len(files_below(tmp_path / "warehouse/facts/explanations", "*/*.parquet")) == 3
    seen = {"toy-progress": "progress", "toy-scorecard": "table", "toy-report": "markdown", "toy-fingerprints": "markdown"}
    assert seen.items() <= kinds.items()
    assert audit_run["name"] == "toy"
    assert sorted(tag.partition(":")[0] for tag in audit_run["tags"]) == ["cfx", "code", "config"]


@pytest.mark.slow
@pytest.mark.long
def test_whatever_is_killed_the_next_run_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    lay_out(tmp_path, 2 * SHARDS)
    root = tmp_path / "warehouse"
    with Stack(tmp_path, write_settings(tmp_path, settings(tmp_path, 2))) as stack:
        assert stack.ended(stack.start()) == "COMPLETED", (tmp_path / "stack.log").read_text()[-5000:]
        undisturbed, total = fact_hashes(root), len(shards(root))
        for what, share in (("flow", 0.5), ("worker", 0.3), ("server", 0.7)):
            outcome = kill_once(stack, root, what, int(share * total), undisturbed, automation=True)
            assert (outcome["next_run"], outcome["written_again"], outcome["same_facts"]) == ("COMPLETED", 0, True), outcome
