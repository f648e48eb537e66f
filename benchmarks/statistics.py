"""How long the statistics take:  python benchmarks/statistics.py [--json]

10,000 explanations, each with its null, of 40 attributes; every verdict with its 2,000 bootstrap and 2,000 sign-flip resamples,
and CD with its interval and noise floor. Facts on disk. The promise is 20 seconds on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from warehouse.facts.shards import write_shard
from warehouse.lens.connect import open_warehouse

QUESTIONS = {"verdicts": "from verdicts", "cd": "from cd", "cd_intervals": "from cd_intervals"}


def write_facts(root: Path, n: int, attributes: int) -> None:
    """Facts of one run: attribute a00 is the target, a01 moves with it, the others are noise."""
    rng = np.random.default_rng(0)
    names = [f"a{i:02}" for i in range(attributes)]
    ids = [f"{i:064x}" for i in range(n)]
    towards = rng.random(n) < 0.5
    classes = np.where(towards[:, None], ["no", "yes"], ["yes", "no"])
    for arm in ("guided", "null"):
        before = rng.random((n, attributes)).astype(np.float32)
        after = np.clip(before + rng.normal(0, 0.1, before.shape), 0, 1).astype(np.float32)
        if arm == "guided":
            after[:, :2] = np.where(towards[:, None], 0.9, 0.1)
        keys = {"image_id": ids, "method": ["dime"] * n, "arm": [arm] * n, "seed": [0] * n}
        wide = {f"{letter}_{name}": pa.array(values[:, i]) for i, name in enumerate(names)
                for letter, values in (("p", before), ("q", after), ("d", after - before))}  # fmt: skip
        write_shard(root, "attributes", "r1", arm, keys | wide)
        floats = ("p_source", "p_target", "p_source_cf", "p_target_cf", "l1", "l2", "linf", "mask_fraction", "seconds")
        measured = {name: [0.5] * n for name in floats} | {name: [18] * n for name in ("nfe_forward", "nfe_backward", "attempt")}
        said = {"flipped": [True] * n, "flipped_8bit": [True] * n, "judge_flipped": [None] * n}
        images = {"png": [b""] * n, "mask_png": [None] * n, "device": ["cpu"] * n}
        ways = {"source": classes[:, 0].tolist(), "target": classes[:, 1].tolist()}
        write_shard(root, "explanations", "r1", arm, keys | ways | measured | said | images)
    annotations = {f"a_{name}": (rng.random(n) < 0.5).tolist() for name in names}
    files = {"image_id": ids, "path": ids, "split": [None] * n, "label": [None] * n, "png": [None] * n}
    write_shard(root, "images", "r1", "all", files | {"width": [64] * n, "height": [64] * n} | annotations)
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    run = {
        "name": "statistics", "status": "finished", "started": moment, "finished": moment, "config": "{}", "config_hash": "",
        "fingerprints": "{}", "code_version": "", "packages": "{}", "seeds": [0], "hardware": "", "classes": ["no", "yes"],
        "target_attribute": "a00", "method": "dime", "margin": 0.1, "attempted": n, "explained": n, "flipped": n, "rejected": 0,
    }  # fmt: skip
    write_shard(root, "runs", "r1", "finished", {name: [value] for name, value in run.items()})


def measure(n: int, attributes: int) -> dict[str, dict[str, float]]:
    """Seconds of wall clock and of CPU for each of QUESTIONS."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_facts(root, n, attributes)
        with open_warehouse(root) as lens:
            for name, sql in QUESTIONS.items():
                started, spent = time.perf_counter(), time.process_time()
                lens.execute(sql).fetchall()
                found[name] = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - spent}
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--explanations", type=int, default=10_000)
    parser.add_argument("--attributes", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = measure(options.explanations, options.attributes)
    if options.json:
        print(json.dumps({"cores": os.cpu_count(), **vars(options), "results": results}))  # noqa: T201
    else:
        for name, spent in results.items():
            print(f"{name:14s} {spent['seconds']:7.2f} s   {spent['cpu_seconds']:7.2f} s of CPU")  # noqa: T201
