"""Kill worker, flow or server at random moments of a toy audit, and see whether the next run ends as an undisturbed one would.

    .venv/bin/python -m benchmarks.kills --kills 10 --json

Real processes throughout, brought up by the commands that docs/how-to/production.md gives.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import httpx
import psutil

from benchmarks.toy_audit import fact_hashes, lay_out, settings, write_settings

ROOT = Path(__file__).resolve().parent.parent
SHARDS = 40
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Stack:
    """A Prefect server, a worker and the deployments, in a folder of their own; `where`: the folder that they are started in.

    only: the server alone.
    """

    def __init__(
        self, folder: Path, audit: Path, where: Path = ROOT, only: Literal["server"] | None = None, **environment: str
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        self.home, self.where, self.environment = str(folder / "prefect"), where, environment
        text = (ROOT / "docs" / "how-to" / "production.md").read_text()
        (block,) = re.findall(r"```sh\n(.*?)```", text, re.S)
        self.commands = block.replace("4200", self.port).replace("$PWD/examples/portraits.yaml", str(audit))
        if only is not None:
            self.commands = self.commands.partition("prefect work-pool")[0]
        self.log = (folder / "stack.log").open("ab")
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}/api", timeout=60)

    def __enter__(self) -> Stack:
        self._bash(self.commands)
        name, password = self.key.split(":")
        self.client.auth = httpx.BasicAuth(name, password)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes(""):
            process.kill()
        self.log.close()
        self.client.close()

    @property
    def key(self) -> str:
        """Name and password of the server."""
        return (Path(self.home) / "key").read_text().strip()

    def _bash(self, commands: str) -> None:
        env = os.environ | {"PREFECT_HOME": self.home, "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1"} | self.environment
        for name in ("PREFECT_API_URL", "PREFECT_TEST_MODE"):
            env.pop(name, None)
        context: dict[str, Any] = {"cwd": self.where, "env": env, "stdout": self.log, "stderr": self.log}
        subprocess.run(["bash", "-ec", commands], check=True, start_new_session=True, stdin=subprocess.DEVNULL, **context)

    def again(self, what: str) -> None:
        """Start the server or the worker again, by its own line of the documentation."""
        lines = self.commands.splitlines()
        waiting = [line for line in lines if line.startswith("until")] if what == "server" else []
        (line,) = (line for line in lines if line.startswith(f"prefect {what} start"))
        self.run(line, *waiting)

    def run(self, *lines: str) -> None:
        """Commands in the documentation's environment."""
        self._bash("\n".join([*(line for line in self.commands.splitlines() if line.startswith("export")), *lines]))

    def processes(self, word: str) -> list[psutil.Process]:
        """This stack's own processes, known by their PREFECT_HOME, whose command has the word in it."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("PREFECT_HOME") == self.home and word in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def request(self, method: str, path: str, **body: Any) -> Any:
        """What the server answers; requested again for a minute while it is too far behind with its records to answer (503)."""
        patience = time.monotonic() + 60
        while True:
            answer = self.client.request(method, path, json=body.get("json"))
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > patience:
                break
            time.sleep(2)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def deployment(self) -> str:
        return str(self.request("GET", "/deployments/name/nightly/audit")["id"])

    def start(self, **parameters: str) -> str:
        """Run the audit now, with other parameters than the deployment's if any are given; returns the id of the flow run."""
        given = {"parameters": parameters}
        return str(self.request("POST", f"/deployments/{self.deployment()}/create_flow_run", json=given)["id"])

    def schedule(self, seconds: float) -> None:
        """One more schedule: every day, first in so many seconds."""
        first = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
        schedules = [{"schedule": {"interval": 86400, "anchor_date": first}, "active": True}]
        self.request("POST", f"/deployments/{self.deployment()}/schedules", json=schedules)

    def scheduled(self) -> str:
        """The run of this hour that the schedule has made; the scheduler looks once a minute unless it is set otherwise."""
        soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        due = {"deployment_id": {"any_": [self.deployment()]}, "expected_start_time": {"before_": soon}}
        return str(until(lambda: self.request("POST", "/flow_runs/filter", json={"flow_runs": due}), 120)[0]["id"])

    def state(self, run: str) -> str:
        return str(self.request("GET", f"/flow_runs/{run}")["state_type"])

    def ended(self, run: str, seconds: float = 600) -> str:
        return str(until(lambda: self.state(run) in ENDED and self.state(run), seconds))

    def kill(self, what: str) -> None:
        """kill -9 of the flow's process; of the worker and its flow, as when a machine dies; or of the server."""
        words = {"flow": ("prefect.engine",), "worker": ("worker start", "prefect.engine"), "server": ("server",)}[what]
        victims = [process for word in words for process in self.processes(word)]
        for process in victims:
            process.kill()
        psutil.wait_procs(victims, 10)


def until(ready: Any, seconds: float) -> Any:
    """What `ready()` returns once that is something. Raises TimeoutError if it is nothing for so many seconds."""
    deadline = time.monotonic() + seconds
    while not (answer := ready()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.25)
    return answer


def shards(root: Path) -> dict[str, tuple[int, int]]:
    """Every shard with what would tell that it was written again."""
    found = {}
    for path in root.glob("facts/*/*/*.parquet"):
        stat = path.stat()
        found[str(path)] = (stat.st_mtime_ns, stat.st_ino)
    return found


def zombie(stack: Stack, run: str, seconds: float = 240) -> float:
    """Seconds until the automation of zombies.yaml marks a run Crashed that says Running while its machine is dead."""
    assert stack.state(run) == "RUNNING"
    began = time.monotonic()
    until(lambda: stack.state(run) == "CRASHED", seconds)
    return round(time.monotonic() - began, 1)


def kill_once(
    stack: Stack, root: Path, what: str, after: int, undisturbed: dict[str, str], automation: bool = False
) -> dict[str, Any]:
    """One kill once `after` shards are there, one more run, and what came of it.

    automation: wait until zombies.yaml finds out that the run of a dead machine is dead; otherwise that is said in its place.
    """
    shutil.rmtree(root, ignore_errors=True)
    first = stack.start()
    until(lambda: len(shards(root)) >= after, 300)
    stack.kill(what)
    before = shards(root)
    found: dict[str, Any] = {}
    if what == "worker" and automation:
        found["crashed_after"] = zombie(stack, first)
    if what != "flow":
        stack.again(what)
    if what == "worker" and stack.state(first) not in ENDED:  # what zombies.yaml does, 90 seconds later
        stack.request("POST", f"/flow_runs/{first}/set_state", json={"state": {"type": "CRASHED"}, "force": True})
    stack.ended(first)
    state = stack.ended(stack.start())
    left = shards(root)
    return found | {
        "killed": what,
        "shards_before": len(before),
        "next_run": state,
        "written_again": sum(left.get(path) != stat for path, stat in before.items()),
        "same_facts": fact_hashes(root) == undisturbed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--zombies", action="store_true", help="let the automation find the runs of dead machines: 90 s each")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="cfx-kills-"))
    lay_out(folder, 2 * SHARDS)
    root, audit = folder / "warehouse", write_settings(folder, settings(folder, 2))
    rows = []
    with Stack(folder, audit) as stack:
        assert stack.ended(stack.start()) == "COMPLETED", folder / "stack.log"
        undisturbed, total = fact_hashes(root), len(shards(root))
        for number in range(options.kills):
            what = ("flow", "worker", "server")[number % 3]
            rows.append(kill_once(stack, root, what, chance.randrange(2, total), undisturbed, options.zombies))
            print(json.dumps(rows[-1]) if options.json else rows[-1], flush=True)  # noqa: T201
    shutil.rmtree(folder)
    good = [row for row in rows if row["next_run"] == "COMPLETED" and row["same_facts"] and not row["written_again"]]
    print(json.dumps({"kills": len(rows), "good": len(good), "shards": SHARDS}))  # noqa: T201


if __name__ == "__main__":
    main()
