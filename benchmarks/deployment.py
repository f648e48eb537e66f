"""A Prefect server, a worker and the deployments as real processes, brought up by the commands of docs/how-to/production.md."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
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
