"""docs/production.md as it stands, in real processes: from an empty folder to a scheduled audit, then kills."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kills import SHARDS, Stack, kill_once, shards
from benchmarks.toy_audit import fact_hashes, lay_out, settings, write_settings
from warehouse.storage import files_below

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Path]]:
    """Everything that the documentation brings up, and the warehouse that its scheduled audit has written."""
    folder = tmp_path_factory.mktemp("production")
    lay_out(folder, 2 * SHARDS)
    with Stack(folder, write_settings(folder, settings(folder, 2))) as stack:
        stack.schedule(seconds=75)
        assert stack.ended(stack.scheduled()) == "COMPLETED", (folder / "stack.log").read_text()[-5000:]
        yield stack, folder / "warehouse"


def test_a_scheduled_audit_is_there_for_a_person_to_see(stack: tuple[Stack, Path]) -> None:
    running, root = stack
    assert len(files_below(root / "facts" / "explanations", "*/*.parquet")) == SHARDS
    kinds = {item["key"]: item["type"] for item in running.ask("POST", "/artifacts/filter", json={})}
    seen = {"toy-progress": "progress", "toy-scorecard": "table", "toy-report": "markdown", "toy-fingerprints": "markdown"}
    assert seen.items() <= kinds.items()
    (audit,) = running.ask("POST", "/flow_runs/filter", json={"flows": {"name": {"any_": ["audit"]}}})
    assert audit["name"] == "toy"
    assert sorted(tag.partition(":")[0] for tag in audit["tags"]) == ["cfx", "code", "config"]


def test_whatever_is_killed_the_next_run_ends_as_an_undisturbed_one(stack: tuple[Stack, Path]) -> None:
    running, root = stack
    undisturbed, total = fact_hashes(root), len(shards(root))
    for what, share in (("flow", 0.5), ("worker", 0.3), ("server", 0.7)):
        outcome = kill_once(running, root, what, int(share * total), undisturbed, automation=True)
        assert (outcome["next_run"], outcome["written_again"], outcome["same_facts"]) == ("COMPLETED", 0, True), outcome
