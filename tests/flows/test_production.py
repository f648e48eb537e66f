"""docs/how-to/production.md as it stands, in real processes of the checkout: what dies is found dead, told, and run again.

Kills at any moment: tests/flows/test_chaos.py. Scheduled audits: tests/packaging.
"""

from pathlib import Path

import pytest

from benchmarks.deployment import Stack, until
from benchmarks.toy_audit import lay_out, run_hashes, settings, write_settings
from tests.servers import Inbox

MACHINE, FLOW = "worker", "flow"  # what dies: the worker with its flow, or the flow alone


@pytest.mark.slow
@pytest.mark.long
def test_whatever_dies_its_run_is_marked_crashed_one_letter_comes_and_the_next_run_completes(tmp_path: Path) -> None:
    lay_out(tmp_path, 40)
    explained = tmp_path / "warehouse/facts/explanations"
    audit = write_settings(tmp_path, settings(tmp_path, 2))
    with Inbox(tmp_path) as inbox, Stack(tmp_path, audit, CFX_ALARM_URL=inbox.url) as stack:
        stack.run("cfx alarm webhook")
        for what in (MACHINE, FLOW):
            run = stack.start()
            until(lambda: list(explained.glob("*/*.parquet")), 300)
            stack.kill(what)
            assert stack.ended(run, 240) == "CRASHED", "by zombies.yaml, where the worker cannot tell"
            letters = until(lambda: inbox.letters, 60)  # of the run, and of its audit where that was at work
            assert all(letter["event"] == "prefect.flow-run.Crashed" and letter["message"] for letter in letters)
            assert len({letter["flow_run"] for letter in letters}) == len(letters) <= 2, letters  # one letter each
            inbox.letters.clear()
            if what == MACHINE:
                stack.again("worker")
                assert stack.ended(stack.start()) == "COMPLETED", (tmp_path / "stack.log").read_text()[-5000:]
                found = run_hashes(tmp_path / "warehouse")
                for path in explained.parent.rglob("*.parquet"):
                    path.unlink()
        assert stack.ended(stack.start()) == "COMPLETED"
        assert run_hashes(tmp_path / "warehouse") == found
