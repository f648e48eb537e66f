"""Two audits of one run at once: the second waits for the first, and no image is queried twice."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from benchmarks.toy_audit import fact_hashes, lay_out, settings
from flows.in_process import audit_in_process
from tasks.check import check
from tasks.config import AuditConfig
from tasks.run_lock import locked
from tasks.stages.unchanged import QUERIED
from tests.runs import run_of
from warehouse.evidence.scrub import scrub
from warehouse.lens.connect import query

log = logging.getLogger("cfx.audit")
seen: list[bytes] = []


def answers(images: np.ndarray) -> np.ndarray:
    """A user's function that remembers what it was shown: (b, 3, 16, 16) in [0, 1] to probabilities."""
    seen.extend(image.tobytes() for image in images)
    bright = images.mean((1, 2, 3))
    return np.stack([1 - bright, bright], 1)


def test_a_second_audit_of_a_run_waits_and_one_of_another_run_does_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, other = run_of(tmp_path, "one"), run_of(tmp_path, "other")
    order: list[str] = []

    def second() -> None:
        with locked(one, log):
            order.append("second")

    with caplog.at_level(logging.INFO, logger=log.name), ThreadPoolExecutor(1) as pool:
        with locked(one, log), locked(other, log):
            waiting = pool.submit(second)
            deadline = time.monotonic() + 20
            while "another audit of this run is at work" not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.02)
            assert not waiting.done()
            order.append("first")
        waiting.result(timeout=30)
    assert order == ["first", "second"]


@pytest.mark.long
def test_two_audits_in_step_query_no_image_twice_and_both_find_the_same(tmp_path: Path) -> None:
    lay_out(tmp_path, 12)
    box = {"access": "callable", "module": f"{__name__}:answers", "classes": ["not_smiling", "smiling"]}
    given = settings(tmp_path, 4, classifier=box, prior=None, oracle=None, target_attribute=None)
    runs = [check(AuditConfig.model_validate(given)) for _ in range(2)]
    seen.clear()
    with ThreadPoolExecutor(2) as pool:
        found = [future.result() for future in [pool.submit(audit_in_process, run) for run in runs]]
    assert found == [runs[0].id] * 2
    assert len(seen) - len(set(seen)) <= QUERIED  # those that the second one sees again whether the answers are still the same
    assert scrub(tmp_path / "warehouse").damage == ()
    counted = "select sum(batch) as images, count(distinct call) as calls, count(*) as n from queries"
    (row,) = query(tmp_path / "warehouse", counted).to_pylist()
    assert row["images"] == len(seen) and row["calls"] == row["n"]
    before = fact_hashes(tmp_path / "warehouse")
    audit_in_process(runs[0])
    after = fact_hashes(tmp_path / "warehouse")
    assert after | {"queries": ""} == before | {"queries": ""}
