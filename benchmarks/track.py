"""Every quick benchmark, a row each in a kept history, and the history drawn, so that a slowdown is seen:

    .venv/bin/python benchmarks/track.py [--only NAME ...] [--history FILE] [--draw]

A row has the moment, the commit (`+` where files differ from it), the hardware and the figures: lower is better in all. They are
appended to benchmarks/results/history.jsonl and drawn beside it as history.svg: every figure over the first that was taken on the
same hardware. A figure that is SLOWER times the median of its earlier ones there, or more, is printed and ends it with 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

if sys.path[0] == str(Path(__file__).resolve().parent):
    sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any, NamedTuple

from matplotlib.figure import Figure

HOME = Path(__file__).resolve().parents[1]
HISTORY = HOME / "benchmarks" / "results" / "history.jsonl"
SLOWER = 1.5
Row = dict[str, Any]


class Benchmark(NamedTuple):
    """A quick form of a benchmark, and what of its JSON is followed."""

    arguments: tuple[str, ...]  # of Python
    within: str  # where its rows lie in the JSON; "" where they are the JSON
    named: tuple[str, ...]  # columns that tell its rows apart
    figures: tuple[str, ...]  # columns that are followed


BENCHMARKS = {
    "engines": Benchmark(("engines.py", "--quick"), "rows", ("engine", "batch"), ("ms_an_image",)),
    "methods": Benchmark(("methods.py", "--quick"), "", ("method", "preset"), ("seconds_per_flip", "peak_mib")),
    "gpu": Benchmark(("gpu.py", "--tiny"), "rows", ("what", "size", "engine", "batch"), ("seconds_per_image", "peak_mib")),
    "statistics": Benchmark(("statistics.py",), "results", (), ("cpu_seconds",)),
    "warehouse": Benchmark(("warehouse.py", "--quick"), "cpu_seconds", (), ()),
    "explorer": Benchmark(("explorer.py", "--quick"), "page_seconds", (), ("median",)),
}


def figures(benchmark: Benchmark, printed: Any) -> dict[str, float]:
    """The figures that are followed, by name, of what the benchmark printed.

    Examples:
        >>> rows = [{"engine": "torch", "batch": 8, "ms": 3.4, "gflops": 150}]
        >>> figures(Benchmark((), "rows", ("engine", "batch"), ("ms",)), {"rows": rows})
        {'torch 8 ms': 3.4}
        >>> figures(Benchmark((), "seconds", (), ()), {"seconds": {"fid": 1.5}})
        {'fid': 1.5}
    """
    found = printed[benchmark.within] if benchmark.within else printed
    if isinstance(found, list):
        parts = {" ".join(str(row[name]) for name in benchmark.named): row for row in found}
    else:
        parts = found if all(isinstance(value, dict) for value in found.values()) else {"": found}
    wanted = {name: benchmark.figures or tuple(row) for name, row in parts.items()}
    values = {f"{name} {figure}".strip(): parts[name][figure] for name, columns in wanted.items() for figure in columns}
    return {name: float(value) for name, value in values.items() if value is not None}


def measured(name: str) -> Row:
    """Run a benchmark. Raises CalledProcessError, with its own words on the error stream, if it fails."""
    benchmark = BENCHMARKS[name]
    command = [sys.executable, str(HOME / "benchmarks" / benchmark.arguments[0]), *benchmark.arguments[1:], "--json"]
    printed = subprocess.run(command, cwd=HOME, check=True, stdout=subprocess.PIPE, text=True).stdout
    where = {"benchmark": name, "commit": commit(), "hardware": hardware()}
    return {"when": datetime.now(UTC).isoformat(timespec="seconds"), **where, "figures": figures(benchmark, _json(printed))}


def _json(printed: str) -> Any:
    return json.loads(printed[min(at for at in map(printed.find, "[{") if at >= 0) :])


def commit() -> str:
    """The commit, and a plus where tracked files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HOME, capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short=9", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def hardware() -> str:
    """The processor by name, and how many cores."""
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    models = [line.partition(":")[2].strip() for line in told.splitlines() if line.startswith("model name")]
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"


def read(history: Path) -> list[Row]:
    """The rows so far, the oldest first; none without a file."""
    return [json.loads(line) for line in history.read_text().splitlines()] if history.is_file() else []


def series(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[tuple[str, float]]]:
    """By benchmark, figure and hardware: commits and values, the oldest first."""
    found: dict[tuple[str, str, str], list[tuple[str, float]]] = {}
    for row in rows:
        for name, value in row["figures"].items():
            found.setdefault((row["benchmark"], name, row["hardware"]), []).append((row["commit"], value))
    return found


def slower(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each figure whose last value is SLOWER times the median of the earlier ones or more."""
    for (benchmark, name, _), values in series(rows).items():
        *before, (at, last) = values
        usual = median(value for _, value in before) if before else last
        if last >= SLOWER * usual > 0:
            yield f"slower: {benchmark}, {name}: {last:g} at {at}, {last / usual:.2f} times the usual {usual:g}"


def draw(rows: Sequence[Row], file: Path) -> None:
    """One panel a benchmark: each figure over its first on the same hardware, by measurement. SVG or PNG."""
    every = series(rows)
    benchmarks = sorted({benchmark for benchmark, _, _ in every})
    figure = Figure(figsize=(9, 2.6 * len(benchmarks)), layout="constrained")
    for axes, benchmark in zip(figure.subplots(len(benchmarks), squeeze=False)[:, 0], benchmarks, strict=True):
        own = {(name, machine): values for (of, name, machine), values in every.items() if of == benchmark}
        for (name, machine), values in own.items():
            axes.plot([value / (values[0][1] or 1) for _, value in values], "o-", label=f"{name} ({machine})", markersize=4)
        longest = max(own.values(), key=len)
        axes.set_xticks(range(len(longest)), [at for at, _ in longest], rotation=30, ha="right", fontsize=8)
        axes.axhline(SLOWER, color="grey", linestyle=":", linewidth=1)
        axes.set(title=benchmark, ylabel="times the first")
        if len(own) <= 10:
            axes.legend(fontsize=7, loc="upper left")
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), help="measure these only")
    parser.add_argument("--history", type=Path, default=HISTORY, help="append to this file; the drawing lies beside it")
    parser.add_argument("--draw", action="store_true", help="measure nothing, draw what there is")
    options = parser.parse_args()
    failed = []
    for name in () if options.draw else options.only:
        try:
            row = measured(name)
        except subprocess.CalledProcessError as error:
            failed.append(f"{name} failed with {error.returncode}; see above")
            continue
        with options.history.open("a") as history:
            history.write(json.dumps(row) + "\n")
        print(f"{name}: {len(row['figures'])} figures at {row['commit']}")  # noqa: T201
    rows = read(options.history)
    if not rows:
        parser.error(f"{options.history} has no rows; leave out --draw to measure some")
    draw(rows, options.history.with_suffix(".svg"))
    found = [*failed, *(line for line in slower(rows) if options.draw or line.split()[1].rstrip(",") in options.only)]
    print("\n".join(found) or "nothing is slower than usual")  # noqa: T201
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
