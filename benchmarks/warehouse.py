"""How long the questions take over ten million explanations of forty attributes, and how much memory.

    .venv/bin/python benchmarks/warehouse.py --json            # 10 million; 11 GB of disk and some minutes to make them
    .venv/bin/python benchmarks/warehouse.py --json --quick    # 200,000

Facts as an audit writes them, guided and null, 100,000 explanations a shard, each with its sums. The queries run on
two cores, in a process of their own, whose peak memory is given; where the cores are busy with other things, cpu_seconds say
more than seconds. `--from-rows` queries as if no sums had been written down.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.pop(0)  # benchmarks/, whose names would hide Python's own and ours
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa

from warehouse.facts.schema import FACTS
from warehouse.facts.shards import Shard, write_shard
from warehouse.lens.connect import open_warehouse
from warehouse.lens.partial_sums import write_sums

VIEWS = ("cd", "mnac", "ranked_attributes")
IMAGES = 50_000  # a shard: 100,000 explanations
CORES = 2


def write_facts(root: Path, explanations: int, attributes: int) -> float:
    """One run; a00 is the target attribute, a01 moves with it, the others drift. Returns the seconds that the sums took."""
    rng = np.random.default_rng(0)
    names = [f"a{i:02}" for i in range(attributes)]
    before = rng.random((IMAGES, attributes), np.float32)
    drift = rng.normal(0, 0.1, (IMAGES, attributes)).astype(np.float32)
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    run = {
        "name": "large", "status": "finished", "reason": None,
         "started": moment, "finished": moment, "config": "{}", "config_hash": "",
        "fingerprints": "{}", "code_version": "", "packages": "{}", "seeds": [0], "hardware": "", "classes": ["no", "yes"],
        "target_attribute": "a00", "method": "dime", "margin": 0.1, "attempted": None, "explained": None, "flipped": None,
        "rejected": None,
    }  # fmt: skip
    write_shard(root, "runs", "r1", "finished", {name: [value] for name, value in run.items()})
    spent = 0.0
    for number, start in enumerate(range(0, explanations // 2, IMAGES)):
        n = min(IMAGES, explanations // 2 - start)
        written = _shard(root, f"{number:05}", start, n, names, np.roll(before, number, 1)[:n], np.roll(drift, 3 * number, 0)[:n])
        began = time.perf_counter()
        write_sums(root, *written, "a00")
        spent += time.perf_counter() - began
    return spent


def _shard(root: Path, key: str, start: int, n: int, names: list[str], before: Any, drift: Any) -> tuple[Shard, Shard, Shard]:
    """Images, explanations and attributes of n images, every second one explained towards yes."""
    ids = pa.array([f"{(start + i) * 0x9E3779B97F4A7C15 % 2**64:064x}" for i in range(n)])
    towards = np.arange(n) % 2 == 0
    guided = np.clip(before + drift, 0, 1)
    guided[:, :2] = np.where(towards[:, None], 0.9, 0.1)
    after = np.concatenate([guided, np.clip(before + drift[::-1], 0, 1)])
    twice = np.concatenate([before, before])
    keys = {
        "image_id": pa.concat_arrays([ids, ids]), "method": pa.repeat("dime", 2 * n), "seed": pa.repeat(0, 2 * n),
        "arm": pa.concat_arrays([pa.repeat("guided", n), pa.repeat("null", n)]),
    }  # fmt: skip
    rows = {f"{letter}_{name}": pa.array(values[:, i]) for i, name in enumerate(names)
            for letter, values in (("p", twice), ("q", after), ("d", after - twice))}  # fmt: skip
    sides = {"source": np.tile(np.where(towards, "no", "yes"), 2), "target": np.tile(np.where(towards, "yes", "no"), 2)}
    columns = keys | {name: pa.array(side) for name, side in sides.items()}
    for field in FACTS["explanations"].schema:
        constant = {pa.bool_(): True, pa.string(): "cpu", pa.binary(): b""}.get(field.type, 1)
        columns.setdefault(field.name, pa.repeat(pa.scalar(constant, field.type), 2 * n))
    columns["flipped"] = pa.array(np.concatenate([np.arange(n) % 10 > 0, np.zeros(n, bool)]))
    files = {"image_id": ids, "path": ids, "split": pa.nulls(n, pa.string()), "label": pa.nulls(n, pa.string())}
    files |= {"png": pa.nulls(n, pa.binary()), "width": pa.repeat(pa.scalar(64, pa.int32()), n)}
    files |= {f"a_{name}": pa.array(before[:, i] > 0.5) for i, name in enumerate(names)}
    images = write_shard(root, "images", "r1", key, pa.table(files | {"height": files["width"]}))
    explained = write_shard(root, "explanations", "r1", key, pa.table(columns))
    return images, explained, write_shard(root, "attributes", "r1", key, pa.table(keys | rows))


def answers(root: Path, from_rows: bool) -> dict[str, Any]:
    """Seconds for each view, opening the warehouse included, of the clock and of the CPU; and the peak memory of this process."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    seconds, cpu_seconds = {}, {}
    for view in VIEWS:
        began, spent = time.perf_counter(), time.process_time()
        with closing(open_warehouse(root, from_rows, sql=f"from {view}")) as lens:
            assert lens.execute(f"from {view}").fetchall()
        seconds[view] = round(time.perf_counter() - began, 2)
        cpu_seconds[view] = round(time.process_time() - spent, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_gib": round(peak, 2)}


def measured(folder: Path, explanations: int, attributes: int, from_rows: bool) -> dict[str, Any]:
    """Facts, made unless they are there, and the answers of a process that queries them."""
    wrote: dict[str, Any] = {}
    if not (folder / "facts").is_dir():
        began = time.perf_counter()
        sums = write_facts(folder, explanations, attributes)
        wrote = {"write_seconds": round(time.perf_counter() - began, 1), "of_these_sums": round(sums, 1)}
    command = [sys.executable, __file__, "--ask", str(folder), *(["--from-rows"] if from_rows else [])]
    answered = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return {"rows": explanations, "attributes": attributes, "cores": CORES, "from_rows": from_rows} | answered | wrote


def _lines(row: dict[str, Any]) -> Iterator[str]:
    for name, value in row.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        yield from (f"{name:14} {part:18} {number}" for part, number in parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--explanations", type=int, default=10_000_000)
    parser.add_argument("--attributes", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="200,000 explanations")
    parser.add_argument("--folder", type=Path, help="keep the facts here, or query those that are here")
    parser.add_argument("--from-rows", action="store_true")
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.ask is not None:
        print(json.dumps(answers(options.ask, options.from_rows)))  # noqa: T201
        return
    with tempfile.TemporaryDirectory() as scratch:
        explanations = 200_000 if options.quick else options.explanations
        row = measured(options.folder or Path(scratch), explanations, options.attributes, options.from_rows)
    print(json.dumps(row) if options.json else "\n".join(_lines(row)))  # noqa: T201


if __name__ == "__main__":
    main()
