"""What the orchestration of an audit costs: the share of the workers' time that is not spent inside a stage.

    .venv/bin/python benchmarks/orchestration.py --json --engine local --shards 100 --images 4

A real audit, of portraits with the demo's networks, on a Prefect server of its own with SQLite. The time counts from the first
stage's beginning to the last one's end, by the fact `stages`: starting Python and Prefect comes once, whatever the size.
overhead_share = 1 - (seconds inside stages) / (workers x wall seconds).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prefect.testing.utilities import prefect_test_harness

from cfx.portraits import write_portraits
from flows.audit import run_audit
from tasks.config import AuditConfig
from warehouse.lens.connect import query

SPENT = """
    select sum(epoch(ended - began)) as inside, epoch(max(ended) - min(began)) as wall, count(distinct process) as processes
    from stages where stage not in ('runs', 'images')
"""
HASH = (
    "select sha256(string_agg(hex(png), '' order by image_id, arm, seed)) as hash from explanations"  # whatever the run is called
)


def measured(folder: Path, engine: str, shards: int, images: int, workers: int) -> dict[str, Any]:
    """One audit of so many shards, and what its orchestration cost."""
    write_portraits(folder / "data", shards * images, seed=11)
    config = AuditConfig.model_validate(
        {
            "name": "orchestration",
            "warehouse": folder / "warehouse",
            "data": {"images": folder / "data/images", "table": folder / "data/attributes.csv", "label_column": "label"},
            "classifier": {"weights": "portraits:planted"},
            "oracle": {"weights": "portraits:oracle"},
            "prior": {"path": "portraits:prior"},
            "target_attribute": "smile",
            "ladder": [{"method": "fastdime", "steps": 50, "tau": 10, "scale": 40}],
            "interventions": {"images": 1},
            "shard_size": images,
            "workers": workers,
            "device": "cpu",
            "engine": engine,
        }
    )
    started = time.monotonic()
    run_audit(config)
    (spent,) = query(config.warehouse, SPENT).to_pylist()
    (explained,) = query(config.warehouse, HASH).to_pylist()
    overhead = 1 - spent["inside"] / (workers * spent["wall"])
    return {
        "engine": engine,
        "shards": shards,
        "workers": workers,
        "overhead_share": round(overhead, 4),
        "overhead_seconds_a_shard": round(overhead * workers * spent["wall"] / shards, 3),
        "seconds_a_shard": round(spent["inside"] / shards, 2),
        "wall_seconds": round(time.monotonic() - started, 1),
        "explanations_hash": explained["hash"][:16],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("local", "dask", "ray"), default="local")
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--images", type=int, default=4, help="a shard")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, prefect_test_harness(server_startup_timeout=120):
        row = measured(Path(folder), options.engine, options.shards, options.images, options.workers)
    print(json.dumps(row) if options.json else "\n".join(f"{name:26} {value}" for name, value in row.items()))  # noqa: T201


if __name__ == "__main__":
    main()
