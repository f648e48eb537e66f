"""zombies.yaml on a real Prefect server: runs that a dead machine left Pending or Running are marked Crashed, and no others."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.deployment import until

ROOT = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).with_name("prefect"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[httpx.Client]:
    """A server with the automations of zombies.yaml, which wait for 10 seconds instead of 90 and 600."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}/api"
    env = os.environ | {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": url, "DO_NOT_TRACK": "1"}
    text = (ROOT / "zombies.yaml").read_text()
    assert text.count("within: 90") == text.count("within: 600") == 1
    (tmp_path / "zombies.yaml").write_text(text.replace("within: 90", "within: 10").replace("within: 600", "within: 10"))
    with (tmp_path / "log").open("wb") as log:
        command = [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", port, "--no-ui"]
        started = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            until(lambda: healthy(client), 120)
            subprocess.run([PREFECT, "automation", "create", "-f", str(tmp_path / "zombies.yaml")], env=env, check=True)
            yield client
    finally:
        started.terminate()
        started.wait(60)


def healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx.TransportError:
        return False


def post(client: httpx.Client, path: str, json: dict[str, Any]) -> Any:
    answer = client.post(path, json=json)
    answer.raise_for_status()
    return answer.json()


@pytest.mark.long
@pytest.mark.slow
def test_a_run_that_never_began_is_marked_crashed_and_one_that_began_is_not(server: httpx.Client) -> None:
    flow = post(server, "/flows/", {"name": "nightly"})["id"]
    runs = {
        name: post(server, "/flow_runs/", {"flow_id": flow, "name": name, "state": {"type": "SCHEDULED"}})["id"]
        for name in ("died", "began", "ended", "waits")
    }

    def put(name: str, *states: str) -> None:
        for state in states:
            post(server, f"/flow_runs/{runs[name]}/set_state", {"state": {"type": state}})

    def state(name: str) -> tuple[str, str]:
        found = server.get(f"/flow_runs/{runs[name]}").json()["state"]
        return found["type"], found["message"]

    put("died", "PENDING")
    put("began", "PENDING", "RUNNING")
    put("ended", "PENDING", "RUNNING", "COMPLETED")
    until(lambda: state("died")[0] == "CRASHED", 90)
    assert state("died") == ("CRASHED", "Not begun ten minutes after a worker took it.")
    time.sleep(10)
    assert [state(name)[0] for name in ("began", "ended", "waits")] == ["RUNNING", "COMPLETED", "SCHEDULED"]
