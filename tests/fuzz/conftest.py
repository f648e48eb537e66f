"""How many examples are tried: few and always the same ones in the suite, and with --hypothesis-profile=long thousands."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

LENIENT = settings(deadline=None, suppress_health_check=list(HealthCheck))  # tests/fuzz/bounds.py has bounds of its own
settings.register_profile("suite", LENIENT, derandomize=True, database=None)
settings.register_profile("long", LENIENT, print_blob=True)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore:Generating overly large repr")
    settings.load_profile(config.getoption("--hypothesis-profile") or "suite")
