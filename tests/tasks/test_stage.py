"""What every stage shares: a shard that is whole is left, one that is damaged or missing is written, whichever fact it is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.run import Run
from tasks.stage import Rows, stage
from tests.runs import run_of
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import damaged, read_shard

KEYS: dict[str, list[Any]] = {"image_id": ["a"], "method": ["dime"], "arm": ["guided"], "seed": [0]}
PAIR = {name: KEYS[name] for name in ("image_id", "method", "arm")} | {"seed_a": [0], "seed_b": [1]}
made: list[str] = []


@stage("measurements", suffix="-more", also=("features", "pairs"))
def measured(run: Run) -> Rows:
    made.append(run.id)
    return {
        "measurements": KEYS | {"measure": ["lpips"], "encoder": [None], "value": [0.5]},
        "features": KEYS | {"encoder": ["oracle"], "vector": [[0.0, 1.0]]},
        "pairs": PAIR | {"encoder": ["vgg"], "lpips": [0.25]},
    }


@pytest.mark.parametrize("way", ["cut", "flipped", "missing"])
def test_a_shard_of_any_fact_of_a_stage_is_healed_and_the_others_are_left(tmp_path: Path, way: str) -> None:
    run = run_of(tmp_path)
    made.clear()
    measured(run)
    measured(run)
    paths = {path.parent.parent.name: path for path in tmp_path.glob("facts/*/run_id=r1/*.parquet")}
    assert made == ["r1"] and paths.keys() == {"measurements", "features", "pairs", "stages"}
    for fact, path in paths.items():
        whole, inodes = path.read_bytes(), {name: other.stat().st_ino for name, other in paths.items() if name != fact}
        if way == "missing":
            path.unlink()
        else:
            path.write_bytes(whole[:-9] if way == "cut" else whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
        shard = measured(run)
        assert damaged(tmp_path, "r1") == [] and path.exists()
        assert fact == "stages" or path.read_bytes() == whole
        assert {name: other.stat().st_ino for name, other in paths.items() if name != fact} == inodes
        assert read_shard(shard).num_rows == 1
    assert made == ["r1"] * 4  # what a damaged record said of time is lost: it has no row, and nothing is computed for it
    stages = next(tmp_path.glob("facts/stages/*/*.parquet"))
    assert stages.name == "measurements.all-more.parquet" and FACTS["stages"].schema.names[0] == "stage"
