"""What `cfx demo` costs at several commits, in turn, on the same machine:

    .venv/bin/python benchmarks/demo.py BEFORE NOW [--rounds N] [--json]     # checkouts, each with its own .venv

CPU seconds of all its processes, seconds by the clock; peak memory of the largest of them, and of all together, where what
they share is counted once (PSS), read twice a second; and the verdicts, which are to be the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own

from statistics import median

import psutil

EVERY = 0.5  # seconds
VERDICTS = "select run_id, attribute, verdict from verdicts order by all"


def ran(checkout: Path) -> dict[str, Any]:
    """One demo in a fresh folder."""
    cfx = str(checkout.resolve() / ".venv/bin/cfx")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with subprocess.Popen([cfx, "demo"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as demo:
            largest = together = 0.0
            cpu: dict[int, float] = {}
            while demo.poll() is None:
                memory = 0.0
                for process in _below(demo.pid):
                    with suppress(psutil.Error, FileNotFoundError, ProcessLookupError):
                        cpu[process.pid] = sum(process.cpu_times()[:2])
                        peak, now = _memory(process.pid)
                        largest, memory = max(largest, peak), memory + now
                together = max(together, memory)
                time.sleep(EVERY)
            seconds = time.perf_counter() - began
        assert demo.returncode == 0, f"cfx demo of {checkout} ended with {demo.returncode}"
        asked = [cfx, "query", VERDICTS, "-w", "cfx-demo/warehouse", "--format", "json"]
        verdicts = json.loads(subprocess.run(asked, cwd=folder, check=True, capture_output=True, text=True).stdout)
    return {
        "cpu_seconds": sum(cpu.values()),
        "seconds": seconds,
        "largest_mib": largest,
        "together_mib": together,
        "verdicts": {f"{row['run_id'].rsplit('-', 1)[0]}: {row['attribute']}": row["verdict"] for row in verdicts},
    }


def _below(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _memory(pid: int) -> tuple[float, float]:
    """The peak of a process, and what it has now, MiB."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    rollup = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return int(status["VmHWM"].split()[0]) / 1024, int(rollup["Pss"].split()[0]) / 1024


def measured(checkouts: list[Path], rounds: int) -> list[dict[str, Any]]:
    runs: dict[Path, list[dict[str, Any]]] = {checkout: [] for checkout in checkouts}
    for _ in range(rounds):
        for checkout in checkouts:
            runs[checkout].append(ran(checkout))
    rows = []
    for checkout, several in runs.items():
        commit = subprocess.run(
            ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True
        ).stdout.strip()
        figures = [name for name in several[0] if name != "verdicts"]
        row = {"commit": commit} | {name: [round(run[name], 1) for run in several] for name in figures}
        rows.append(row | {"verdicts": several[0]["verdicts"]})
        assert all(run["verdicts"] == several[0]["verdicts"] for run in several), f"verdicts of {checkout} differ"
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", type=Path, nargs="+", metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measured(options.checkouts, options.rounds)
    if options.json:
        print(json.dumps(rows, indent=1))  # noqa: T201
        return
    for row in rows:
        figures = "   ".join(f"{name} {median(row[name]):.0f}" for name in row if isinstance(row[name], list))
        print(row["commit"], figures, f"({len(row['verdicts'])} verdicts)")  # noqa: T201


if __name__ == "__main__":
    main()
