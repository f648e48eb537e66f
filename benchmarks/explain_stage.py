"""CPU seconds that the demo spends explaining, an image, on one thread:

    .venv/bin/python benchmarks/explain_stage.py [--images N] [--json]
    cd ANOTHER-CHECKOUT && .venv/bin/python THIS-CHECKOUT/benchmarks/explain_stage.py      # the cfx of the current folder

Images are laid out, read and predicted as in `cfx demo`; then the stage explains them, guided and null, by its ladder. Where
the UNet is compiled, that counts. Two commits are compared by running it in the folder of either, in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own
sys.path.insert(0, os.getcwd())

import pyarrow.parquet as pq
import torch

from flows.demo import demo_config, lay_out
from tasks.check import check
from tasks.stages.explain import explain
from tasks.stages.ingest import ingest
from tasks.stages.learn import Learned
from tasks.stages.predict import predict


def measured(n: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder), n)
        run = check(demo_config(Path(folder), "planted", n))
        shards = [(images, predict(run, images)) for images in ingest(run)]
        started = time.process_time()
        found = [explain(run, images, predicted, Learned()) for images, predicted in shards]
        spent = time.process_time() - started
        rows = [row for shard in found for row in pq.read_table(shard.path, columns=["arm", "flipped", "attempt"]).to_pylist()]
    guided = [row for row in rows if row["arm"] == "guided"]
    return {
        "images": len(guided),
        "flipped": sum(row["flipped"] for row in guided),
        "second_rung": sum(row["attempt"] for row in guided),
        "cpu_seconds": round(spent, 1),
        "an_image": round(spent / len(guided), 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measured(options.images)
    print(json.dumps(found) if options.json else "   ".join(f"{name} {value}" for name, value in found.items()))  # noqa: T201
