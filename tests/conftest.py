"""What every test stands on: a private, silent Prefect and one compute thread."""

import os
import tempfile
from collections.abc import Iterator

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


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server for the session, started by the first test that asks for it (about 20 seconds)."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
