"""docs/how-to/production.md as it stands, in real processes of the checkout: kills. A scheduled audit: tests/packaging."""

from pathlib import Path

import pytest

from benchmarks.kills import SHARDS, Stack, kill_once, shards
from benchmarks.toy_audit import fact_hashes, lay_out, settings, write_settings


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
