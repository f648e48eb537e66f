"""A connection settled on a run answers about that run as any other does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from portrait_run import write_portrait_run

from warehouse.facts.shards import write_shard
from warehouse.lens.connect import open_warehouse
from warehouse.lens.gate import set_policy
from warehouse.lens.settled import SETTLED, settle
from warehouse.report.queries import EVIDENCE, evidence

POLICY = {
    "base": "earlier", "forbidden": None, "maximum_effect": 0.15, "minimum_images": 24, "minimum_flip_rate": 0.5,
    "minimum_judge_flip_rate": 0.5, "maximum_rise": 0.1, "maximum_cd_rise": 5.0, "explained": True,
}  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Sums may differ in their last digits: several threads add in any order."""
    match one:
        case float():
            return isinstance(other, float) and one == pytest.approx(other, rel=1e-9, abs=1e-12, nan_ok=True)
        case list():
            return len(one) == len(other) and all(map(same, one, other))
        case dict():
            return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
        case _:
            return bool(one == other)


def test_every_question_of_a_report_has_the_same_answer(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "earlier", n=24, size=16)
    write_portrait_run(tmp_path, "run", n=32, size=16, places={0: 0.3}, pasted=0)
    set_policy(tmp_path, "run", POLICY)
    twins = {"attribute": "hat", "planted_run": "earlier", "clean_run": "run"}
    found = {"verdict": "clear", "rank": 3, "power": 0.4, "false_alarms": [], "false_alarm_rate": 0.0}
    row = twins | found | {"passed": False, "why": "hat was planted and is clear"}
    write_shard(tmp_path, "canaries", "run", "all", {name: [value] for name, value in row.items()})
    with open_warehouse(tmp_path) as plain, open_warehouse(tmp_path) as settled:
        settle(settled, "run")
        for name in EVIDENCE:
            assert same(evidence(settled, name, "run").rows, evidence(plain, name, "run").rows), name
        (canary,) = evidence(settled, "canary", "run").rows
        assert not canary["passed"] and evidence(settled, "rules", "run").rows and evidence(settled, "changes", "run").rows
        assert len(evidence(settled, "ranked", "run").rows) > 5
        for name in SETTLED:  # and no other run's
            assert settled.execute(f"select distinct run_id from {name}").fetchall() == [("run",)]
