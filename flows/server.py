"""Prefect's API for the audits of one process, where no server is named: it starts with the first and never outlives the process.

Prefect starts such a server by itself. That one is in the terminal's process group, so that Ctrl-C ends it before the audit,
which then waits for it in vain; and it is left behind by whatever kills the audit.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import httpx
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, temporary_settings

from cfx.errors import TransientError

ALONE = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}  # as Prefect starts its own


@contextmanager
def prefect_api() -> Iterator[None]:
    """In the body Prefect has an API: the one that is named (PREFECT_API_URL, a profile), else one of this process's own.

    Raises TransientError where it does not come up.
    """
    if PREFECT_API_URL.value() is not None:
        yield
        return
    url, _ = _own_api()
    with temporary_settings({PREFECT_API_URL: url}):
        yield


@cache
def _own_api() -> tuple[str, subprocess.Popen[bytes]]:
    """Its address, and the process, which lives while this one holds the other end of its input."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flows.server", str(port)]
    url, patience = f"http://127.0.0.1:{port}/api", PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=os.environ | ALONE, start_new_session=True
        )
        deadline = time.monotonic() + patience
        while server.poll() is None and time.monotonic() < deadline:
            try:
                if httpx.get(f"{url}/health", timeout=5).is_success:
                    return url, server
            except httpx.TransportError:
                time.sleep(0.1)
        server.kill()
        said.seek(0)
        last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
    raise TransientError(f"Prefect's server did not come up within {patience:g} s ({last or 'it said nothing'}); run again")


def _until_the_end_of_input() -> None:
    sys.stdin.read()  # ends when whoever started this process is gone, in whatever way
    os._exit(0)


if __name__ == "__main__":
    import uvicorn

    threading.Thread(target=_until_the_end_of_input, daemon=True).start()
    app = "prefect.server.api.server:create_app"
    uvicorn.run(app, factory=True, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", lifespan="on")
