"""Charts of matplotlib for notebooks: the same rows as the report's, by the same queries.

Each draws into `ax`, or into a figure of its own, and returns the Axes: `ax.figure.savefig("effects.png")`.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfx.errors import UserError
from warehouse.lens.connect import query
from warehouse.lens.fetch import Row
from warehouse.report.queries import EVIDENCE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"confirmed": "#b3261e", "suspected": "#c77700", "fragile": "#c77700", "clear": "#4b7f52"}
OTHER = "#667085"
BAND = "#eef1f4"
LINES = ("#1f5fbf", "#c77700", "#4b7f52", "#8a3ffc", "#b3261e")
MOST = 20  # findings, the strongest first
IMAGES = 200  # that the mean image is of
SHARES = {"accuracy", "predicted", "explained", "confidence"}  # kinds of the view `trend` that lie in 0 to 1
UNITS = {  # of a kind of the view `trend`, where its name does not say it
    "predicted": "share of the answers",
    "attribute": "effect on the score",
    "property": "effect on the score",
    "place": "effect on the score",
}
POINTS = 100  # hundredths of a probability

STAGES = {  # what each stage does, by the fact that it writes
    "images": "read the images",
    "predictions": "ask the classifier",
    "properties": "measure the images",
    "label_issues": "look for wrong labels",
    "shared_files": "compare splits",
    "explanations": "draw counterfactuals",
    "attributes": "ask the oracle",
    "saliency": "saliency",
    "measurements": "measure counterfactuals",
    "set_metrics": "compare sets of images",
    "edits": "edit single attributes",
    "effects": "ask the classifier about edits",
    "explained": "probe and exchange parts of images",
}
TREND = "from trend where audit = $audit and (name = $of or kind = $of) order by kind, name, class, started"
COST = "from stage_costs where run_id = $run order by seconds desc, stage"
MEAN = """
select png from images join (select run_id, coalesce((config ->> 'thumbnails')::bool, true) as shown from runs) using (run_id)
where run_id = $run and shown and png is not null order by image_id limit $most
"""


def plot_effects(root: Path, run: str, ax: Axes | None = None) -> Axes:
    """What moves the answer when it alone is changed: each finding's intervention with its 95 % interval, in points.

    The band is the margin, inside which an effect is too small to matter. Rows are those of the report's table of all claims.
    """
    found = [row for row in query(root, EVIDENCE["claims"], {"run": run}).to_pylist() if row["intervention"] is not None]
    rows = found[:MOST]
    [margin] = query(root, "select margin from runs where run_id = $run", {"run": run})["margin"].to_pylist()
    ax = _axes(ax, (7.5, 1.4 + 0.34 * max(1, len(rows))))
    ax.axvspan(-POINTS * margin, POINTS * margin, color=BAND, zorder=0)
    ax.axvline(0, color=OTHER, linewidth=0.8)
    for height, row in enumerate(rows):
        colour = COLOURS.get(row["verdict"], OTHER)
        if row["low"] is not None:
            ax.plot([POINTS * row["low"], POINTS * row["high"]], [height] * 2, color=colour, linewidth=2, solid_capstyle="round")
        ax.plot(POINTS * row["intervention"], height, "o", color=colour, markersize=5)
    classes = {row["class"] for row in rows}
    ax.set_yticks(range(len(rows)), [_name(row, len(classes) > 1) for row in rows])
    ax.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    score = f"the “{classes.pop()}” score" if len(classes) == 1 else "the class's score"
    ax.set_xlabel(f"shift of {score} when it alone is changed, points (95 % interval)")
    ax.spines[["top", "right", "left"]].set_visible(False)
    first = f"the first {len(rows)} of {len(found)} findings; " if len(found) > len(rows) else ""
    said = (
        f"{first}grey: too small to matter (±{POINTS * margin:g} points)" if rows else "nothing was edited, probed or exchanged"
    )
    ax.set_title(said, fontsize=10, loc="left")
    return ax


def plot_map(root: Path, run: str, of: str | None = None, ax: Axes | None = None) -> Axes:
    """How far each place of the image moves the answer when it is exchanged, over the mean image, in points; outlined where it
    decides and nothing that was named lies there.

    of: the class whose score is meant; default: the one that a place moves most. Raises UserError for a class without a map.
    """
    places = query(root, EVIDENCE["map"], {"run": run}).to_pylist()
    maps = {name: list(rows) for name, rows in groupby(places, key=lambda row: row["class"])}
    if of is not None and of not in maps:
        raise UserError(f"there is no map of {of!r}; this run has {', '.join(maps) or 'none'}")
    from matplotlib.cm import ScalarMappable

    ax = _axes(ax, (4.6, 3.8))
    ax.set_axis_off()
    if not maps:
        ax.set_title("no places were exchanged", fontsize=10)
        return ax
    shown = of or max(maps, key=lambda name: max(row["effect"] for row in maps[name]))
    rows, grid = maps[shown], maps[shown][0]["grid"]
    values = np.zeros((grid, grid))
    for row in rows:
        values.flat[row["place"]] = POINTS * row["effect"]
    mean = _mean_image(root, run)
    if mean is not None:
        ax.imshow(mean, extent=(0, grid, grid, 0))
    largest = max(1e-9, float(values.max()))
    strength = np.clip(values / largest, 0, 1)  # where nothing decides, the image is left as it is
    drawn = ax.imshow(values, extent=(0, grid, grid, 0), cmap="Reds", vmin=0, vmax=largest, alpha=0.8 * strength)
    for row in rows:
        if row["decides"] and row["unnamed"]:
            y, x = divmod(row["place"], grid)
            ax.plot([x, x + 1, x + 1, x, x], [y, y, y + 1, y + 1, y], color=COLOURS["confirmed"], linewidth=1.5)
    ax.set_title(f"where the “{shown}” score comes from", fontsize=10)
    scale = ScalarMappable(drawn.norm, drawn.cmap)  # in full colours
    ax.figure.colorbar(scale, ax=ax, shrink=0.8, label="shift when exchanged, points")
    return ax


def plot_trend(root: Path, audit: str, of: str = "accuracy", ax: Axes | None = None) -> Axes:
    """One quantity of an audit over its finished runs, with the 95 % interval of each.

    of: a name or kind of the view `trend`: accuracy, explained share, an attribute, property or place, a class that is predicted.
    Raises UserError for an audit without finished runs, or a quantity that it does not have.
    """
    rows = query(root, TREND, {"audit": audit, "of": of}).to_pylist()
    if not rows:
        known = query(root, "select distinct audit, kind, name from trend order by all").to_pylist()
        audits = sorted({row["audit"] for row in known})
        if audit not in audits:
            raise UserError(f"there is no finished audit called {audit!r}; there is {', '.join(audits) or 'none'}")
        names = sorted({row["name"] for row in known if row["audit"] == audit})
        raise UserError(f"{audit} has no {of!r} over time; it has {', '.join(names)}")
    from matplotlib.dates import ConciseDateFormatter

    ax = _axes(ax, (7.5, 3.2))
    lines = [(key, list(part)) for key, part in groupby(rows, key=lambda row: (row["kind"], row["name"], row["class"]))]
    for i, ((kind, name, target), part) in enumerate(lines):
        colour, when = LINES[i % len(LINES)], [row["started"] for row in part]
        values, low, high = (np.array([row[end] for row in part], float) for end in ("value", "low", "high"))
        called = (
            name.replace("_", " ") if kind in ("accuracy", "measured", "confidence") or target is None else f"{name}: “{target}”"
        )
        ax.plot(when, values, "o-", color=colour, markersize=4, label=called)
        ax.fill_between(when, low, high, color=colour, alpha=0.15, linewidth=0)
        if len(part) == 1:  # a band of one run has no width
            ax.vlines(when, low, high, color=colour, alpha=0.5)
    ax.set_title(f"{audit}: {of.replace('_', ' ')} (95 % interval)", fontsize=10, loc="left")
    ax.set_ylabel(UNITS.get(lines[0][0][0], lines[0][0][1].replace("_", " ")))
    if len(lines) > 1:
        ax.legend(fontsize=8, frameon=False)
    if lines[0][0][0] in SHARES:
        ax.set_ylim(-0.02, 1.02)
    days = sorted({row["started"] for row in rows})
    if len(days) > 1:
        ax.xaxis.set_major_formatter(ConciseDateFormatter(ax.xaxis.get_major_locator()))
    else:
        ax.set_xticks(days, [f"{days[0]:%Y-%m-%d}"])
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_cost(root: Path, run: str, ax: Axes | None = None) -> Axes:
    """What the stages of an audit took, the longest first: time inside each, added up over its shards (view `stage_costs`).

    Edits that were drawn for another audit, too, are kept apart, and are not here.
    """
    rows = query(root, COST, {"run": run}).to_pylist()
    ax = _axes(ax, (7.5, 1.2 + 0.3 * max(1, len(rows))))
    unit, divisor = ("minutes", 60) if rows and rows[0]["seconds"] >= 120 else ("seconds", 1)
    bars = ax.barh(range(len(rows)), [row["seconds"] / divisor for row in rows], color=LINES[0])
    ax.bar_label(bars, [_cost(row, divisor) for row in rows], padding=4, fontsize=8)
    ax.set_yticks(range(len(rows)), [STAGES.get(row["stage"], row["stage"].replace("_", " ")) for row in rows])
    ax.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    ax.margins(x=0.5)
    ax.set_xlabel(f"{unit} of work, added up over shards and workers")
    ax.spines[["top", "right", "left"]].set_visible(False)
    if not rows:
        ax.set_title("nothing was timed", fontsize=10)
    return ax


def _cost(row: Row, divisor: int) -> str:
    evaluated = f", {row['nfe_forward']:,} UNet evaluations" if row["nfe_forward"] else ""
    return f"{row['seconds'] / divisor:.3g}{' min' if divisor == 60 else ' s'}{evaluated}"


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """These axes, or those of a figure of pyplot's, which a notebook shows by itself."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=size, layout="constrained")[1]


def _name(row: Row, with_class: bool) -> str:
    called = row["given_name"] or row["name"].replace("_", " ")
    return textwrap.shorten(f"{called} ({row['verdict']}{', ' + row['class'] if with_class else ''})", 60, placeholder="…")


def _mean_image(root: Path, run: str) -> NDArray[np.uint8] | None:
    """Of up to IMAGES images of one size; None where none are kept, or none may be shown."""
    pngs: Sequence[bytes] = query(root, MEAN, {"run": run, "most": IMAGES})["png"].to_pylist()
    pixels = [np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in pngs]
    alike = [image for image in pixels if image.shape == pixels[0].shape]
    return np.mean(alike, axis=0).astype(np.uint8) if alike else None
