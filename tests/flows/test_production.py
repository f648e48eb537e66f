"""docs/how-to/production.md as it stands, in real processes of the checkout: kills. Scheduled audits: tests/packaging."""

from pathlib import Path

import pytest

from benchmarks.deployment import SHARDS, Stack, kill_once, shards, until
from benchmarks.toy_audit import fact_hashes, lay_out, settings, write_settings
from tests.servers import Inbox


@pytest.mark.slow
@pytest.mark.long
def test_whatever_is_killed_the_next_run_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    lay_out(tmp_path, 2 * SHARDS)
    root = tmp_path / "warehouse"
    with (
        Inbox(tmp_path) as inbox,
        Stack(tmp_path, write_settings(tmp_path, settings(tmp_path, 2)), CFX_ALARM_URL=inbox.url) as stack,
    ):
        stack.run("cfx alarm webhook")
        assert stack.ended(stack.start()) == "COMPLETED", (tmp_path / "stack.log").read_text()[-5000:]
        undisturbed, total = fact_hashes(root), len(shards(root))
        for what, share in (("flow", 0.5), ("worker", 0.3), ("server", 0.7)):
            outcome = kill_once(stack, root, what, int(share * total), undisturbed, automation=True)
            assert (outcome["next_run"], outcome["written_again"], outcome["same_facts"]) == ("COMPLETED", 0, True), outcome
            if what != "server":  # whose audit may go on
                letters = until(lambda: inbox.letters, 60)  # of the run, and of its audit where that was at work
                assert all(letter["event"] == "prefect.flow-run.Crashed" and letter["message"] for letter in letters)
                assert len({letter["flow_run"] for letter in letters}) == len(letters) <= 2, letters  # one letter each
                inbox.letters.clear()
