"""benchmarks/chaos.py, the six disturbances of its short version: after each the next run has the facts of an undisturbed one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.chaos import QUICK
from benchmarks.disturbances import DISTURBANCES, STAGES
from warehouse.facts.schema import FACTS

ROOT = Path(__file__).parents[2]
KEPT = json.loads((ROOT / "benchmarks/results/chaos.json").read_text())


def test_every_disturbance_has_a_name_of_its_own_and_an_outcome_that_is_kept() -> None:
    names = [one.name for one in DISTURBANCES]
    assert len(names) == len(set(names)) >= 30 and set(QUICK) <= set(names)
    assert {row["disturbance"] for row in KEPT["rows"]} <= set(names) and set(STAGES) <= FACTS.keys()
    assert KEPT["disturbances"] == KEPT["completed"] == KEPT["same"] == len(KEPT["rows"]) > 0
    assert KEPT["recomputed"] == KEPT["orphans"] == 0


@pytest.mark.slow
@pytest.mark.long
def test_six_disturbances_do_no_harm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.chaos", "--quick", "--json"]
    ran = subprocess.run(command, cwd=ROOT, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-5000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert [row["disturbance"] for row in found["rows"]] == [one.name for one in DISTURBANCES if one.name in QUICK]
    assert (found["completed"], found["same"], found["recomputed"], found["orphans"]) == (6, 6, 0, 0)
