"""What a question costs in a warehouse of 5 runs and in one of 200: each command in a process of its own, as a user types it.

    .venv/bin/python benchmarks/growth.py --json            # 5 and 200 runs of 128 images; some minutes to make them
    .venv/bin/python benchmarks/growth.py --json --quick    # 3 and 12 runs of 16 images, and a report of 64

The runs are one audit's facts as the tests write them, sealed, under other run ids, with other seeds and times. Three of them
are nights of the audit that is asked about, in either warehouse; the others are nights of other audits. All have a report, and
what an audit's end keeps for queries over many runs. Seconds are those of the CPU, which other work on the machine changes
little, and of the clock; megabytes are the most that a process held. `ratio`: CPU seconds in the larger warehouse over those in
the smaller. `nothing kept`: asked first of runs that another version audited. Of pages the CPU seconds are the server's, from the
request until it is answered. The last row is a report of one audit of many images, in a warehouse of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.pop(0)  # benchmarks/, whose names would hide Python's own and ours
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "warehouse")]

NIGHTS = 3  # of the audit that is asked about
ASKED = f"asked-{NIGHTS - 1:010x}"
OF_ONE = f"where run_id = '{ASKED}'"
COMMANDS: dict[str, tuple[str, ...]] = {
    "scorecard of one": ("query", f"from scorecard {OF_ONE}"),
    "gate_verdicts of one": ("query", f"from gate_verdicts {OF_ONE}"),
    "gate of one": ("gate", ASKED),
    "report of one": ("report", ASKED),
    "verify of one": ("verify", ASKED),
    "export of one": ("export", ASKED, "--out", "{scratch}/one.zip"),
    "trend of one audit": ("trend", "asked"),
    "runs": ("runs",),
    "scorecard of all": ("query", "from scorecard"),
    "gate_verdicts of all": ("query", "from gate_verdicts"),
    "benchmark": ("query", "from benchmark"),
}
NOTHING_KEPT = ("scorecard of all", "benchmark", "gate_verdicts of all")
PAGES = {"page of all runs": "/", "page of all runs, again": "/", "page of one": f"/runs/{ASKED}"}
FINE = (0, 1, 3)  # exit codes: a gate may fail or be open


def write_warehouse(root: Path, runs: int, images: int) -> None:
    """So many runs of so many images."""
    from datetime import timedelta

    import pyarrow as pa
    from portrait_run import write_portrait_run

    from cfx.portraits import ATTRIBUTES
    from tasks.reading.gate import Policy, set_policy
    from warehouse.facts.shards import find_shard, read_shard, write_shard
    from warehouse.report.render import report_path, write_report

    write_portrait_run(root, "asked-model", images)
    set_policy(root, "asked-model", Policy())
    truths = {"attribute": [name for name in ATTRIBUTES if name != "smile"]}
    n = len(truths["attribute"])
    known = {
        "kind": ["one"] * n,
        "rho": [0.9] * n,
        "images": [images] * n,
        "planted": [["glasses"]] * n,
        "portraits": [64] * n,
    }
    write_shard(root, "truths", "asked-model", "all", truths | known | {"seed": [0] * n, "effect": [0.3] + [0.0] * (n - 1)})
    page = write_report(root, "asked-model").read_bytes()
    shards = [(path.parents[1].name, path.stem) for path in sorted((root / "facts").glob("*/run_id=asked-model/*.parquet"))]
    for i in range(runs):
        audit = "asked" if i < NIGHTS else f"audit-{i // 10}"
        run_id = f"{audit}-{i:010x}"
        for fact, key in shards:
            shard = find_shard(root, fact, "asked-model", key)
            assert shard is not None
            if fact == "edits":  # audits of the same images share them
                continue
            table = read_shard(shard)
            columns = table.to_pydict()
            if "seed" in columns:
                columns["seed"] = [i] * len(table)
            if fact == "runs":
                columns |= {"name": [audit], "seeds": [[i]]}
                columns |= {
                    event: [moment and moment + timedelta(days=i) for moment in columns[event]]
                    for event in ("started", "finished")
                }
            write_shard(root, fact, run_id, key, pa.table(columns, table.schema))
        report_path(root, run_id).write_bytes(page.replace(b"asked-model", run_id.encode()))
    for fact, key in shards:
        if fact != "edits":
            (root / "facts" / fact / "run_id=asked-model" / f"{key}.parquet").unlink()
    for path in (root / "reports").glob("asked-model.*"):
        path.unlink()


def keep_rows(root: Path) -> None:
    """What the end of an audit keeps of its run, of every run of which it is not there."""
    from warehouse.lens.kept import keep_all
    from warehouse.lens.runs import run_ids

    keep_all(root, run_ids(root))


def _patient(command: tuple[str, ...]) -> tuple[str, ...]:
    return (*command, "--timeout", "3600") if command[0] == "query" else command


def asked(command: tuple[str, ...], root: Path, scratch: Path) -> dict[str, float]:
    """What one command took, in a process of its own. Raises RuntimeError if it did not answer."""
    words = [part.replace("{scratch}", str(scratch)) for part in _patient(command)]
    began = time.perf_counter()
    with (scratch / "said").open("wb") as said:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("cfx")), *words, "-w", str(root)], stdout=said, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in FINE:
        raise RuntimeError(f"{' '.join(words)}: exit code {process.returncode}: {(scratch / 'said').read_text()[-500:]}")
    return _figures(used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024)


def _figures(cpu: float, seconds: float, mb: float) -> dict[str, float]:
    return {"cpu_seconds": round(cpu, 2), "seconds": round(seconds, 2), "mb": round(mb)}


def pages(root: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """What the pages of an explorer that was just started took, its memory the most so far."""
    from served import serving

    with serving(root) as at:
        (server,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        for name, path in PAGES.items():
            began, spent = time.perf_counter(), _cpu_seconds(server)
            with urllib.request.urlopen(at + path) as answer:
                answer.read()
            took = time.perf_counter() - began, _cpu_seconds(server) - spent
            yield name, _figures(took[1], took[0], _peak_mb(server))
            time.sleep(2)  # what it still does in the background is not the next page's


def _cpu_seconds(process: str) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mb(process: str) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def written(root: Path, runs: int, images: int) -> float:
    """The seconds that a warehouse took to write, and what is kept of its runs; 0 where it is there."""
    began, new = time.perf_counter(), not root.is_dir()
    subprocess.run([sys.executable, __file__, "--write", str(root), str(runs), str(images)], check=True)
    return round(time.perf_counter() - began, 1) if new else 0.0


def report_of_many_images(folder: Path, images: int) -> dict[str, float]:
    """What the report of an audit of so many images took."""
    root = folder / f"images-{images}"
    written(root, 1, images)
    return asked(("report", "asked-0000000000"), root, folder)


def measured(folder: Path, sizes: tuple[int, int], images: int, many_images: int) -> dict[str, Any]:
    """Every question in both warehouses."""
    found: dict[int, dict[str, dict[str, float]]] = {}
    write_seconds = {}
    for runs in sizes:
        root = folder / f"runs-{runs}"
        write_seconds[str(runs)] = written(root, runs, images)
        found[runs] = {name: asked(command, root, folder) for name, command in COMMANDS.items()} | dict(pages(root))
        for name in NOTHING_KEPT:
            shutil.rmtree(root / "kept", ignore_errors=True)
            found[runs][f"{name}, nothing kept"] = asked(COMMANDS[name], root, folder)
    few, many = sizes
    rows = {
        name: {
            str(few): found[few][name],
            str(many): found[many][name],
            "ratio": round(found[many][name]["cpu_seconds"] / max(found[few][name]["cpu_seconds"], 0.01), 2),
        }
        for name in found[few]
    }
    reports = {f"report of {many_images:,} images": report_of_many_images(folder, many_images)}
    return {"runs": list(sizes), "images": images, "questions": rows, "reports": reports, "write_seconds": write_seconds}


def table(row: dict[str, Any]) -> Iterator[str]:
    """The table of the documentation."""
    few, many = (str(size) for size in row["runs"])
    yield f"| CPU s (clock s, MB) | {few} runs | {many} runs | ratio |"
    yield "|---|---|---|---|"
    for name, of in row["questions"].items():
        yield f"| {name} | {_cell(of[few])} | {_cell(of[many])} | {of['ratio']:.2f} |"
    for name, of in row["reports"].items():
        yield f"| {name} | {_cell(of)} | | |"


def _cell(of: dict[str, float]) -> str:
    return f"{of['cpu_seconds']:.2f} ({of['seconds']:.1f}, {of['mb']:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 and 12 runs of 16 images, and a report of 64")
    parser.add_argument("--folder", type=Path, help="keep the warehouses here, or ask those that are here")
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.write:
        root, runs, images = Path(options.write[0]), int(options.write[1]), int(options.write[2])
        if not root.is_dir():
            write_warehouse(root, runs, images)
        keep_rows(root)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(exist_ok=True)
        row = measured(folder, (3, 12), 16, 64) if options.quick else measured(folder, (5, 200), 128, 1000)
    print(json.dumps(row) if options.json else "\n".join(table(row)))  # noqa: T201


if __name__ == "__main__":
    main()
