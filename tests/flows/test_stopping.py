"""Ctrl-C, a signal or `kill -9`: a command ends within seconds and leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.toy_audit import lay_out, settings, write_settings
from warehouse.lens.connect import query

STUBBORN = """
import time
from flows.terminal import settle

settle(quiet=True)  # as every command that works does first
from prefect.settings import PREFECT_API_URL
from flows.server import prefect_api

with prefect_api():
    print(PREFECT_API_URL.value(), flush=True)
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:  # as what waits for a server that is gone
            pass
"""


def started(command: list[str], mark: Path = Path(), **more: Any) -> subprocess.Popen[str]:
    """A command in a session of its own, as from a terminal, where no Prefect server is named."""
    named = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    return subprocess.Popen(command, start_new_session=True, text=True, env=named | {"CFX_TEST": str(mark)}, **more)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).is_success
    except httpx.TransportError:
        return False


@pytest.mark.long
def test_a_command_that_will_not_stop_is_ended_and_its_server_with_it() -> None:
    with started([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        assert command.stdout is not None and command.stderr is not None
        url = command.stdout.readline().strip()
        assert answers(url)
        os.killpg(command.pid, signal.SIGINT)
        assert command.wait(30) == 130 and "the same command goes on from there" in command.stderr.read()
    until(lambda: not answers(url), 30)


def until(true: Callable[[], object], patience: float) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def at_work(mark: Path) -> list[str]:
    """The processes that were started with this mark in their environment, by whomever."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"CFX_TEST={mark}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
    return found


@pytest.mark.long
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_audit_is_stopped_while_explaining_and_goes_on(tmp_path: Path, sent: signal.Signals) -> None:
    lay_out(tmp_path, 60)
    run = [str(Path(sys.executable).with_name("cfx")), "audit", str(write_settings(tmp_path, settings(tmp_path, 4, workers=2)))]
    with (tmp_path / "log").open("w") as log:
        audit = started(run, mark=tmp_path, stdout=log, stderr=log)
    facts = tmp_path / "warehouse/facts"
    until(lambda: list(facts.glob("explanations/*/*.parquet")), 180)
    assert at_work(tmp_path)
    os.killpg(audit.pid, sent)  # as a terminal does to its whole group
    stopped = time.monotonic()
    audit.wait(60)
    assert time.monotonic() - stopped < 10
    until(lambda: not at_work(tmp_path), 30)
    before = {path: path.stat().st_mtime_ns for path in facts.glob("explanations/*/*.parquet")}
    subprocess.run(run, check=True, capture_output=True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert query(tmp_path / "warehouse", "select status, explained from runs").to_pylist() == [
        {"status": "finished", "explained": 60}
    ]
