"""The ledger: a budget that no number of threads or processes can exceed, and answers that survive their process."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from warehouse.facts.query_ledger import BudgetSpent, QueryLedger

ANSWER = {"picture": np.array([0.25, 0.75])}


def ask(ledger: QueryLedger, pictures: int, status: str = "200") -> bool:
    try:
        with ledger.call(pictures) as call:
            call.status = status
    except BudgetSpent:
        return False
    return True


def test_a_budget_is_never_exceeded_by_threads(tmp_path: Path) -> None:
    ledgers = [QueryLedger(tmp_path / "ledger.sqlite", "model", 100) for _ in range(3)]
    with ThreadPoolExecutor(8) as threads:
        granted = list(threads.map(lambda i: ask(ledgers[i % 3], 7), range(60)))
    assert sum(granted) == 100 // 7
    batches: Any = ledgers[0].calls(0)["batch"]
    assert ledgers[0].spent() == sum(batches) == 98


def test_failed_calls_cost_and_calls_that_never_arrived_do_not(tmp_path: Path) -> None:
    ledger = QueryLedger(tmp_path / "ledger.sqlite", "model", 10)
    assert ask(ledger, 4, "503") and ask(ledger, 4, "not reached") and ask(ledger, 4, "timed out")
    assert ledger.spent() == 8
    with pytest.raises(BudgetSpent, match="model: the query budget is 10 images, 8 are spent and this call has 3; raise `limits"):
        ledger._open(3)
    with pytest.raises(ZeroDivisionError), ledger.call(2):
        _ = 1 / 0
    assert ledger.calls(2) == {
        "call": [3, 4],
        "asked": ledger.calls(2)["asked"],
        "batch": [4, 2],
        "seconds": ledger.calls(2)["seconds"],
        "status": ["timed out", "failed: ZeroDivisionError"],
    }
    assert ledger.calls(4) == {}


def test_a_killed_process_leaves_its_answers_and_its_open_call(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    code = f"""
import os, signal, numpy
from pathlib import Path
from warehouse.facts.query_ledger import QueryLedger
ledger = QueryLedger(Path({str(path)!r}), "model", 100)
with ledger.call(5) as call:
    ledger.keep({{"picture": numpy.array([0.25, 0.75])}})
    call.status = "200"
with ledger.call(3):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": "."}).returncode == -signal.SIGKILL
    ledger = QueryLedger(path, "model", 100)
    answer = ledger.known("picture")
    assert answer is not None and answer.tolist() == [0.25, 0.75]
    assert ledger.known("another") is None
    assert ledger.calls(0)["status"] == ["200", "interrupted"]
    assert ledger.spent() == 8  # what the open call cost is not known, so it counts
