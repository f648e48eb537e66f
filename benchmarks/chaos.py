"""Disturb a toy audit in every way that a machine, a person or a network may, and see what the next run makes of it.

    .venv/bin/python -m benchmarks.chaos --json

After each disturbance the next run has to complete with the facts of an undisturbed one and compute no finished shard again; 30 s
after the disturbance no process may be left, and after the next run no temporary file. Real processes throughout: `cfx audit`, as
people run it, with a Prefect home of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import repeat
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from benchmarks.deployment import ROOT
from benchmarks.disturbances import DISTURBANCES, Disturbance
from benchmarks.lab import Lab
from benchmarks.toy_audit import run_hashes

PATIENCE = 30  # seconds after which no process may be left
STOPS = 10  # seconds within which a signal ends an audit
QUICK = (
    "kill -9, explanations", "Ctrl-C, effects", "a bit flipped in each fact", "a file cut in each fact",
    "a file removed of each fact", "stray files among the facts",
)  # fmt: skip


def outcome(lab: Lab, one: Disturbance) -> dict[str, Any]:
    """What came of one disturbance, and of the run after it."""
    lab.clear(one.finished)
    began, damaged, completed = time.monotonic(), set[Path](), False
    try:
        damaged |= set(one.disturb(lab) or ())
    except subprocess.TimeoutExpired as error:
        lab.note(did_not_end_within=error.timeout)
    orphans = lab.alone(PATIENCE)
    before = lab.shards()
    with suppress(subprocess.TimeoutExpired):
        completed = lab.run(one.config) == 0
    after = lab.shards()
    now = run_hashes(lab.root) if completed else {}
    expected = lab.facts[one.config]
    runs = {run for _, run in expected}
    differing = sorted(
        {fact for fact, run in expected.keys() | now.keys() if run in runs and expected.get((fact, run)) != now.get((fact, run))}
    )
    return {
        "disturbance": one.name,
        "shards_before": len(before.keys() - damaged),
        **lab.noted(),
        "completed": completed,
        "same": completed and not differing,
        "differing": differing,
        "recomputed": sum(after.get(path) != known for path, known in before.items() if path not in damaged),
        "orphan_processes": orphans + lab.alone(PATIENCE),
        "orphan_files": len(lab.temporary()),
        "seconds": round(time.monotonic() - began, 1),
    }


def rows_of(lab: Lab, waiting: Queue[Disturbance], said: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    """What came of each disturbance that this lab took, until none is waiting."""
    rows = []
    with suppress(Empty):
        while True:
            one = waiting.get_nowait()
            for config in ("run", one.config):
                if config not in lab.facts:
                    lab.undisturbed(config)
            rows.append(outcome(lab, one))
            said(rows[-1])
    return rows


def good(row: dict[str, Any]) -> bool:
    """Whether a disturbance did no harm."""
    clean = not (row["recomputed"] or row["orphan_processes"] or row["orphan_files"])
    return bool(row["same"]) and clean and row.get("stopped_in", 0) <= STOPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and damages")
    parser.add_argument("--labs", type=int, default=2, help="audits that are disturbed at once, each with a home of its own")
    parser.add_argument("--only", help="disturbances with this in their name")
    parser.add_argument("--quick", action="store_true", help="six of them, in minutes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    chosen = [one for one in DISTURBANCES if (one.name in QUICK or not options.quick) and (options.only or "") in one.name]
    possible = [one for one in chosen if one.needs is None]
    waiting: Queue[Disturbance] = Queue()
    for one in possible:
        waiting.put(one)
    folder, began = Path(tempfile.mkdtemp(prefix="cfx-chaos-")), time.monotonic()
    labs = [Lab(folder / str(number), options.seed + number) for number in range(options.labs)]

    def said(row: dict[str, Any]) -> None:
        print(json.dumps(row), file=sys.stderr if options.json else sys.stdout, flush=True)

    with ThreadPoolExecutor(len(labs)) as pool:
        parts = list(pool.map(rows_of, labs, repeat(waiting), repeat(said)))
    order = [one.name for one in possible]
    rows = sorted((row for part in parts for row in part), key=lambda row: order.index(row["disturbance"]))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout.strip()
    found = {
        "command": f".venv/bin/python -m benchmarks.chaos {' '.join(sys.argv[1:])}".strip(),
        "commit": commit,
        "hardware": platform.processor() or platform.machine(),
        "seconds": round(time.monotonic() - began),
        "disturbances": len(rows),
        "completed": sum(row["completed"] for row in rows),
        "same": sum(row["same"] for row in rows),
        "recomputed": sum(row["recomputed"] for row in rows),
        "orphans": sum(row["orphan_processes"] + row["orphan_files"] for row in rows),
        "left_out": {one.name: f"needs {one.needs}" for one in chosen if one.needs is not None},
        "rows": rows,
    }
    print(json.dumps(found) if options.json else {key: value for key, value in found.items() if key != "rows"})  # noqa: T201
    if all(map(good, rows)):
        shutil.rmtree(folder)
    else:
        raise SystemExit(f"not all is well; see the logs in {folder}")


if __name__ == "__main__":
    main()
