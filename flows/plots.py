"""Figures of matplotlib for notebooks, of the same rows as the report's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

if TYPE_CHECKING:
    from flows.notebook import Explanation, Pixels

COLOURS = {"confirmed": "#b3261e", "suspected": "#c77700", "fragile": "#c77700", "clear": "#4b7f52"}
OTHER = "#667085"
MOST = 20  # findings, the strongest first
EDITS = 3


def effects(findings: Sequence[Mapping[str, Any]], margin: float) -> Figure:
    """Interventions with their 95 % intervals, a row a finding; the band is the margin inside which an effect is too small."""
    rows = [row for row in findings if row["intervention"] is not None][:MOST]
    figure = Figure(figsize=(7, 1.2 + 0.32 * max(1, len(rows))), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-margin, margin, color="#eef1f4", zorder=0)
    axes.axvline(0, color=OTHER, linewidth=0.8)
    for height, row in enumerate(rows):
        colour = COLOURS.get(row["verdict"], OTHER)
        axes.plot([row["low"], row["high"]], [height, height], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot(row["intervention"], height, "o", color=colour, markersize=5)
    names = [f"{row['given_name'] or row['name']} ({row['verdict']})" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    classes = {row["class"] for row in rows}
    axes.set_xlabel(f"change of P({classes.pop()})" if len(classes) == 1 else "change of the class's probability")
    axes.spines[["top", "right", "left"]].set_visible(False)
    if not rows:
        axes.set_title("nothing was edited, probed or exchanged", fontsize=10)
    return figure


def place_map(places: Sequence[Mapping[str, Any]], images: Sequence[Pixels]) -> Figure:
    """How much of the answer each place decides, over the mean image; outlined where it decides and has no name."""
    classes = {name: list(rows) for name, rows in groupby(places, key=lambda row: row["class"])}
    figure = Figure(figsize=(4 * max(1, len(classes)), 3.6), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, max(1, len(classes))))
    if not classes:
        panels[0].set_axis_off()
        panels[0].set_title("no places were exchanged", fontsize=10)
        return figure
    largest = max(1e-9, *(row["effect"] for row in places))
    for axes, (name, rows) in zip(panels, classes.items(), strict=True):
        grid = rows[0]["grid"]
        if images:
            alike = [image for image in images if image.shape == images[0].shape]
            axes.imshow(np.mean(alike, axis=0).astype(np.uint8), extent=(0, grid, grid, 0), alpha=0.6)
        values = np.zeros(grid * grid)
        for row in rows:
            values[row["place"]] = row["effect"]
        drawn = axes.imshow(values.reshape(grid, grid), extent=(0, grid, grid, 0), cmap="Reds", vmin=0, vmax=largest, alpha=0.55)
        for row in rows:
            if row["decides"] and row["unnamed"]:
                x, y = row["place"] % grid, row["place"] // grid
                axes.plot([x, x + 1, x + 1, x, x], [y, y, y + 1, y + 1, y], color="#b3261e", linewidth=1.5)
        axes.set_axis_off()
        axes.set_title(f"P({name})", fontsize=10)
        figure.colorbar(drawn, ax=axes, shrink=0.8, label="change when exchanged")
    return figure


def explanation(found: Explanation) -> Figure:
    """Input, counterfactual, mask and difference; below them the edits that move the answer most."""
    panels: list[tuple[str, NDArray[Any]]] = [(f"{found.source}: p({found.target}) {found.p_before:.2f}", found.x)]
    panels.append((f"counterfactual: {found.p_after:.2f}", found.x_cf))
    if found.mask is not None:
        panels.append(("mask", found.mask))
    changed = np.abs(found.x_cf.astype(float) - found.x.astype(float)).mean(2)
    panels.append(("change", changed / max(1.0, changed.max())))
    if found.edits is not None:
        for row in found.edits.head(EDITS).itertuples(index=False):
            panels.append((f"{row.attribute} {'on' if row.switched_on else 'off'}: {row.p:.2f}", row.image))
    figure = Figure(figsize=(2.1 * len(panels), 2.5), layout="constrained")
    for axes, (title, image) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.imshow(image, cmap="gray" if image.ndim == 2 else None)
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
    return figure
