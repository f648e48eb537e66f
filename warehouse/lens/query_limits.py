"""What a person's query may take, and how the two sides of `warehouse.lens.query_process` speak."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

GIB = 1 << 30
GRACE = 0.5  # seconds after DuckDB's own interrupt, in which a process may still say so
TOO_LARGE = 75  # exit code: it took more memory than it may


@dataclass(frozen=True)
class Limits:
    """What a query may take: seconds; bytes of memory, and twice as many in a private folder for temporary files (TMPDIR says
    where); bytes of its answer, as Arrow holds it; threads.

    longer, larger: how to give it more time and more memory, in the words of this door.
    """

    seconds: float = 300
    memory: int = GIB
    answer: int = GIB // 2
    threads: int = 4
    longer: str = "raise --timeout"
    larger: str = "raise --memory"


USUAL = Limits()


def send(end: int, message: dict[str, Any]) -> None:
    """A message into a pipe, as a line."""
    with open(end, "wb", closefd=False) as file:
        file.write(json.dumps(message).encode() + b"\n")
