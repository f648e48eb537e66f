"""docs/how-to/production.md as it stands, in real processes of the checkout: strangers, and what dies is found
dead, told, and run again.

Kills at any moment: tests/flows/test_chaos.py. Scheduled audits: tests/packaging.
"""

from pathlib import Path

import httpx
import pytest
from chromium import chromium_page

from benchmarks.deployment import Stack, until
from benchmarks.toy_audit import lay_out, run_hashes, settings, write_settings
from tests.foreign_page import answers_to
from tests.servers import Inbox

MACHINE, FLOW = "worker", "flow"  # what dies: the worker with its flow, or the flow alone


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.browser
def test_a_page_of_another_site_starts_no_run_and_a_stranger_without_the_key_gets_401(tmp_path: Path) -> None:
    with Inbox(tmp_path) as elsewhere, Stack(tmp_path, tmp_path / "none.yaml", only="server") as stack, chromium_page() as page:
        flow = stack.request("POST", "/flows/", json={"name": "any"})["id"]
        deployment = stack.request("POST", "/deployments/", json={"name": "any", "flow_id": flow})["id"]
        api, key = f"http://127.0.0.1:{stack.port}/api", stack.key
        url = f"{api}/deployments/{deployment}/create_flow_run"
        assert httpx.post(url, json={}).status_code == 401
        refused = {"as JSON": "TypeError", "with the key": "TypeError", "unseen": 0, "unseen, as who is logged in": 0}
        assert answers_to(page, elsewhere.url, url, key) == refused
        assert stack.request("POST", "/flow_runs/filter", json={}) == []
        own = answers_to(page, f"{api}/health", url, key)  # or the same would be refused for another reason
        assert (own["as JSON"], own["with the key"]) == (401, 201)
        assert len(stack.request("POST", "/flow_runs/filter", json={})) == 1


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
