"""Prefect flows and the command line."""

from __future__ import annotations

import os

# Before Arrow is loaded: its own pool keeps what was freed, 80 MB of the demo's memory, and is no faster for what cfx does.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
