"""What docs/explanation/evidence.md shows, from the warehouse of `cfx benchmark`.

python benchmarks/evidence_figures.py COMMAND WAREHOUSE RESULT.json [FIGURE.svg [OTHER.json ...]]

Writes the cells, every verdict beside the truth, the command, the commit of the checkout it runs in and the hardware to
RESULT.json, prints the tables, and draws edits beside exact effects, and the share of shortcuts confirmed by correlation.
OTHER.json: results of other parts of the grid, graded elsewhere; the last two tables and the figure are of all together.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from statistics import fmean

import matplotlib
from scipy.stats import spearmanr

from flows.benchmark import marks
from tasks.config import AuditConfig
from warehouse.lens.connect import query

Rows = list[dict[str, Any]]

BY_METHOD = """
    select kind, method, rho, images, cells, top1, confirmed, silent, realised_fdr, spearman, sign_agreement, coverage
    from benchmark order by images desc, kind, method desc, rho nulls last
"""
POWER = """
    select method, images, count(*) as shortcuts, avg(power) as printed, avg((c.verdict = 'confirmed')::int) as confirmed
    from graded g join claims c using (run_id, attribute, method) where planted group by all order by all
"""
GRADED = """
    select kind, method, rho, seed, images, attribute, planted, exact, estimate, estimate_low, estimate_high, change, rank,
        verdict, false_claim
    from graded where images = {most} order by kind, method, rho, seed, run_id, rank
"""
UNNAMED = """
    select t.kind as planted, rho, seed, f.kind, name, intervention, low, high, n, verdict, why
    from findings f join (select distinct run_id, kind, rho, seed from truths) t using (run_id)
    where f.kind <> 'attribute' and verdict = 'confirmed' order by all
"""


def table(rows: Rows) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(_cell(value) for value in row.values()) + " |" for row in rows)])


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def rounded(value: Any) -> Any:
    """Four digits after the point, and no run ids, which differ from machine to machine."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items() if name != "run_id"}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


def together(parts: Sequence[dict[str, Any]]) -> tuple[Rows, Rows]:
    """The marks over all cells of several parts of a grid, by method and over all, and their power by the number of images."""
    margin = AuditConfig.model_fields["margin"].default
    every = [cell for part in parts for cell in part["cells"] if cell["images"] == part["images"]]
    verdicts = [row for part in parts for row in part["graded"] if row["estimate"] is not None]
    marks = []
    for method in (*sorted({cell["method"] for cell in every}, reverse=True), None):
        cells = [cell for cell in every if method in (None, cell["method"])]
        known = [row for row in verdicts if method in (None, row["method"])]
        pairs = [[0 if abs(row[name]) < margin / 2 else row[name] for row in known] for name in ("estimate", "exact")]
        quality = {
            name: [cell[name] for cell in cells if cell[name] is not None] for name in ("top1", "confirmed", "silent", "coverage")
        }
        strong = {name: [cell[name] for cell in cells if cell["rho"] >= 0.7] for name in ("top1", "confirmed")}
        marks.append(
            {"method": method or "all", "cells": len(cells)}
            | {f"{name}, rho >= .7": fmean(values) if values else None for name, values in strong.items()}
            | {name: fmean(values) if values else None for name, values in quality.items()}
            | {"spearman": float(spearmanr(*pairs).statistic)}
        )
    power = []
    for method, images in sorted({(row["method"], row["images"]) for part in parts for row in part["power"]}):
        rows = [row for part in parts for row in part["power"] if (row["method"], row["images"]) == (method, images)]
        n = sum(row["shortcuts"] for row in rows)
        means = {name: sum(row[name] * row["shortcuts"] for row in rows) / n for name in ("printed", "confirmed")}
        power.append({"method": method, "images": images, "shortcuts": n} | means)
    return marks, power


def figure(graded: Rows, cells: Sequence[dict[str, Any]], out: Path) -> None:
    """Edits beside the truth; how the share of confirmed shortcuts grows with their correlation with the label."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    known = [row for row in graded if row["estimate"] is not None]
    for planted, colour, label in ((False, "#9aa2ae", "not planted"), (True, "#c2410c", "planted")):
        some = [row for row in known if row["planted"] is planted]
        exact, estimate = ([row[name] for row in some] for name in ("exact", "estimate"))
        ends = [(row["estimate"] - row["estimate_low"], row["estimate_high"] - row["estimate"]) for row in some]
        left.errorbar(exact, estimate, yerr=list(zip(*ends, strict=True)), fmt="o", ms=4, lw=0.7, c=colour, label=label)
    left.axline((0, 0), slope=1, color="black", lw=0.8)
    left.set(xlabel="exact effect, by rendering again", ylabel="effect of editing, with 95 % interval")
    sizes = sorted({cell["images"] for cell in cells})
    for place, (method, marker) in enumerate((("maskdime", "o"), ("fastdime", "s"))):
        for images, line in ((sizes[-1], "-"), (sizes[0], ":")):
            shares: dict[float, list[float]] = {}
            for cell in cells:
                if (cell["method"], cell["images"]) == (method, images) and cell["shortcuts"]:
                    shares.setdefault(cell["rho"], []).append(cell["confirmed"])
            points = [(rho + 0.012 * place, fmean(share)) for rho, share in sorted(shares.items())]
            if points:
                right.plot(*zip(*points, strict=True), ls=line, marker=marker, c=f"C{place}", label=f"{method}, {images} images")
    right.set(xlabel="correlation with the label", ylabel="planted shortcuts confirmed", ylim=(0, 1.04), xlim=(0.2, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(out)


def main(command: str, root: Path, result: Path, out: Path | None = None, *others: Path) -> None:
    found = marks(root)
    tables = {
        "benchmark": query(root, BY_METHOD).to_pylist(),
        "power": query(root, POWER).to_pylist(),
        "unnamed": query(root, UNNAMED).to_pylist(),
        "graded": query(root, GRADED.format(most=found["images"])).to_pylist(),
    }
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    (machine,) = query(root, "select any_value(hardware) as hardware from runs").to_pylist()
    kept = rounded({"command": command, "commit": commit} | machine | found | tables)
    result.write_text(json.dumps(kept, indent=1) + "\n")
    for name in [name for name in ("benchmark", "power", "unnamed") if tables[name]]:
        print(f"\n{table(tables[name])}")  # noqa: T201
    parts = [*(json.loads(other.read_text()) for other in others), kept]
    for rows in together(parts) if others else ():
        print(f"\n{table(rows)}")  # noqa: T201
    if out is not None:
        figure([row for part in parts for row in part["graded"]], [cell for part in parts for cell in part["cells"]], out)


if __name__ == "__main__":
    main(sys.argv[1], *(Path(argument) for argument in sys.argv[2:]))
