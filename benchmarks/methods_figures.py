"""What docs/explanation/methods.md shows, from a result of benchmarks/methods.py and the warehouse that it left.

python benchmarks/methods_figures.py RESULT.json WAREHOUSE DOCS     prints the table, writes speed.svg and galleries
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.pop(0)  # benchmarks/, whose statistics.py would hide Python's own
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cfx.images import decode_png, encode_png
from warehouse.lens.connect import query

COLUMNS = {
    "n": "n", "flip_rate": "FR", "judge_flip_rate": "judge FR", "l1": "l1", "sparsity": "sparsity", "mnac": "MNAC", "cd": "CD",
    "planted_effect": "glasses", "planted_ranks": "rank", "clean_ranks": "rank, clean", "nfe_forward": "UNet f",
    "nfe_backward": "UNet b", "seconds_per_flip": "s a flip", "speedup": "speed", "nfe_ratio": "fewer UNet", "peak_mib": "MiB",
}  # fmt: skip
SHOWN = 8  # images of a gallery


def cell(value: Any) -> str:
    """A number as short as it can be."""
    if value is None or value == []:
        return "–"
    if isinstance(value, list):
        return ", ".join(cell(one) for one in value)
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 20 else f"{value:.1f}" if abs(value) >= 3 else f"{value:.3f}"
    return str(value)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ["| method, preset | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in rows:
        lines.append(f"| {row['method']}, {row['preset']} | " + " | ".join(cell(row.get(key)) for key in COLUMNS) + " |")
    return "\n".join(lines)


def figure(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Speed against judge flip rate."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    groups: list[list[dict[str, Any]]] = []  # points that lie together share a label
    for row in sorted((row for row in rows if row["speedup"]), key=lambda row: row["speedup"]):
        near = next((group for group in groups if _together(group[-1], row)), None)
        if near is None:
            groups.append(near := [])
        near.append(row)
    for group in groups:
        names = [row["method"] if row["method"] == "default" else f"{row['method']}, {row['preset']}" for row in group]
        speeds, judged = ([row[key] for row in group] for key in ("speedup", "judge_flip_rate"))
        colours = ["#c2410c" if name == "default" else "#1f4e79" for name in names]
        axes.scatter(speeds, judged, s=60, c=colours, zorder=3)
        text: dict[str, Any] = {"xytext": (0, -8), "va": "top", "ha": "center", "fontsize": 8}
        middle = (math.prod(speeds) ** (1 / len(group)), min(judged))
        axes.annotate("\n".join(names), middle, textcoords="offset points", **text)
    axes.set(xscale="log", xlabel="times faster than DiME's paper preset, a flipped explanation", ylabel="judge flip rate")
    axes.margins(x=0.08, y=0.12)
    axes.grid(alpha=0.3)
    figure.savefig(out)


def _together(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return other["speedup"] < 1.3 * one["speedup"] and abs(other["judge_flip_rate"] - one["judge_flip_rate"]) < 0.03


def gallery(root: Path, run: str, out: Path) -> None:
    """Inputs, counterfactuals, masks where there are any, differences (times 2 around grey), of the first images of a run."""
    sql = f"""
        select i.png as before, e.png as after, e.mask_png as mask from explanations e join images i using (run_id, image_id)
        where run_id = '{run}' and arm = 'guided' order by i.path limit {SHOWN}
    """
    rows = query(root, sql).to_pylist()
    before, after = (decode_png([row[name] for row in rows]) for name in ("before", "after"))
    strips: list[Tensor] = [before, after]
    if all(row["mask"] for row in rows):
        strips.append(decode_png([row["mask"] for row in rows]))
    strips.append((after - before).clamp(-1, 1))
    grid = torch.cat([torch.cat(list(strip), 2) for strip in strips], 1)[None]
    out.write_bytes(encode_png(interpolate(grid, scale_factor=2, mode="nearest"))[0])


def main(result: Path, root: Path, docs: Path) -> None:
    rows = json.loads(result.read_text())["rows"]
    docs.mkdir(parents=True, exist_ok=True)
    print(table(rows))  # noqa: T201
    figure(rows, docs / "speed.svg")
    for row in rows:
        gallery(root, row["run"], docs / f"{row['method']}-{row['preset']}.png".replace("+", "p"))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
