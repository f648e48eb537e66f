"""What a new user does first, in the current folder, with the `cfx` of this Python's environment: demo, gate, serve.

The last line is JSON: the version, what the demo found, each twin's gate, and the explorer's answers. It imports nothing of ours,
so it runs where our tests are not: in an environment made of the wheel and the lock, and in a container.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

CFX = str(Path(sys.executable).with_name("cfx"))
WAREHOUSE = "cfx-demo/warehouse"
POLICY = "maximum_effect: 0.2\n"  # the demo's 128 images settle effects of .15, the gate's default; these 64 take a wider bound


def first_steps(images: int) -> dict[str, Any]:
    version = cfx("--version").stdout.split()[-1]
    found = json.loads(cfx("demo", "--images", str(images), "--json").stdout.splitlines()[-1])
    Path("gate.yaml").write_text(POLICY)
    runs = {twin: found[twin]["run_id"] for twin in ("planted", "clean")}
    gates = {twin: gate(run) for twin, run in runs.items()}
    return {"version": version, "demo": found, "gates": gates, "explorer": explorer(runs)}


def cfx(*words: str, codes: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run([CFX, *words], text=True, capture_output=True, timeout=900)
    if ended.returncode not in codes:
        sys.exit(f"cfx {' '.join(words)} ended with {ended.returncode}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}")
    return ended


def gate(run: str) -> dict[str, Any]:
    ended = cfx("gate", run, "--policy", "gate.yaml", "-w", WAREHOUSE, "--json", codes=(0, 1, 3))
    return {"code": ended.returncode} | json.loads(ended.stdout)


def explorer(runs: dict[str, str]) -> dict[str, Any]:
    """Which twins the explorer's front page lists, how long a report is, and the status of a request by another site's name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = subprocess.Popen([CFX, "serve", "-w", WAREHOUSE, "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        front = answer(f"http://127.0.0.1:{port}/", patience=60)[1]
        report = answer(f"http://127.0.0.1:{port}/runs/{runs['planted']}/report")[1]
        foreign = answer(f"http://127.0.0.1:{port}/", host="elsewhere.example")[0]
    finally:
        served.terminate()
        served.wait(30)
    return {"listed": [twin for twin, run in runs.items() if run in front], "report": len(report), "foreign": foreign}


def answer(address: str, host: str = "localhost", patience: float = 0) -> tuple[int, str]:
    """Status and text of a page; for so many seconds a server that is not there yet is waited for."""
    until = time.monotonic() + patience
    while True:
        try:
            with urlopen(Request(address, headers={"Host": host}), timeout=120) as page:
                return page.status, page.read().decode()
        except HTTPError as refused:
            return refused.code, ""
        except URLError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    print(json.dumps(first_steps(int(sys.argv[1]))))  # noqa: T201
