"""What every test stands on: a private, silent Prefect and one compute thread."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before any test module imports Prefect or torch, both of which read it once."""
    home = tempfile.TemporaryDirectory(prefix="cfx-tests-prefect-", ignore_cleanup_errors=True)
    config.add_cleanup(home.cleanup)
    os.environ |= {
        "PREFECT_HOME": home.name,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",  # two compute threads beside another busy process are many times slower than one
    }
    from warehouse.facts import damage
    from warehouse.lens import connect

    connect.SETTINGS["threads"] = 1  # and the same goes for DuckDB's
    damage.cache_of = lambda folder: Path(home.name) / "checked" / str(hash(folder))  # nobody keeps lists of tests' files


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[dict[str, str]]:
    """A Prefect server for the session, started by the first test that asks for it (about 20 seconds): the environment by which
    another process finds it.

    It schedules and watches nothing: what does so looks at its database every few seconds, a tenth of a core for as long as it
    runs. Tests of schedules and of runs that died start servers of their own.
    """
    from prefect import settings
    from prefect.testing.utilities import prefect_test_harness

    watching = ("SCHEDULER", "LATE_RUNS", "CANCELLATION_CLEANUP", "PAUSE_EXPIRATIONS", "FOREMAN", "TRIGGERS", "REPOSSESSOR")
    services = (f"PREFECT_SERVER_SERVICES_{name}_ENABLED" for name in watching)
    off: dict[settings.Setting, bool | None] = {getattr(settings, name): False for name in services}
    off[settings.PREFECT_LOGGING_TO_API_ENABLED] = False  # a request to the server a second and audit
    off[settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY] = None  # a thread that every flow waits for at its end, up to a second
    with settings.temporary_settings(off), prefect_test_harness(server_startup_timeout=120):
        yield {"PREFECT_API_URL": str(settings.PREFECT_API_URL.value())}
