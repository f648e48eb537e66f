"""Ctrl-C: a command that will not stop ends within seconds and leaves no process behind. Audits at any moment: test_chaos.py."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

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


def started(command: list[str], **more: Any) -> subprocess.Popen[str]:
    """A command in a session of its own, as from a terminal, where no Prefect server is named."""
    named = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    return subprocess.Popen(command, start_new_session=True, text=True, env=named, **more)


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
