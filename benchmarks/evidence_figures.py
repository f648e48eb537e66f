"""What docs/evidence.md shows, from the warehouse of `cfx benchmark`.

python benchmarks/evidence_figures.py COMMAND WAREHOUSE RESULT.json [PICTURE.svg]

Writes the cells, every verdict beside the truth, the command, the commit of the checkout it runs in and the hardware to
RESULT.json, prints the tables, and draws edits beside exact effects and the share of shortcuts confirmed by images.
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

import matplotlib

from flows.benchmark import marks
from tasks.ask import query

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
OUTSIDE = """
    select kind, method, rho, seed, o.effect, low, high, drift, n, unnamed, place, finding, why
    from outside o join (select distinct run_id, kind, rho, seed from truths) using (run_id) order by all
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


def picture(graded: Rows, cells: Sequence[dict[str, Any]], out: Path) -> None:
    """Edits beside the truth; how the share of confirmed shortcuts grows with the images."""
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
    for method in sorted({cell["method"] for cell in cells}):
        for rho in sorted({cell["rho"] for cell in cells if cell["shortcuts"]}):
            some = [cell for cell in cells if (cell["method"], cell["rho"]) == (method, rho) and cell["shortcuts"]]
            sizes = sorted({cell["images"] for cell in some})
            shares = [[cell["confirmed"] for cell in some if cell["images"] == size] for size in sizes]
            style = {"ls": "-" if method == "maskdime" else "--", "marker": "o"}
            right.plot(sizes, [sum(share) / len(share) for share in shares], label=f"{method}, correlation {rho:g}", **style)
    right.set(xlabel="images", ylabel="planted shortcuts confirmed", ylim=(0, 1.04), xticks=sizes)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(out)


def main(command: str, root: Path, result: Path, out: Path | None = None) -> None:
    found = marks(root)
    tables = {
        "benchmark": query(root, BY_METHOD).to_pylist(),
        "power": query(root, POWER).to_pylist(),
        "outside": query(root, OUTSIDE).to_pylist(),
        "graded": query(root, GRADED.format(most=found["images"])).to_pylist(),
    }
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    (machine,) = query(root, "select any_value(hardware) as hardware from runs").to_pylist()
    result.write_text(json.dumps(rounded({"command": command, "commit": commit} | machine | found | tables), indent=1) + "\n")
    for name in [name for name in ("benchmark", "power", "outside") if tables[name]]:
        print(f"\n{table(tables[name])}")  # noqa: T201
    if out is not None:
        picture(tables["graded"], found["cells"], out)


if __name__ == "__main__":
    main(sys.argv[1], *(Path(argument) for argument in sys.argv[2:5]))
