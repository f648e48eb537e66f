"""The figure of one explanation, for notebooks; charts of an audit are in `warehouse.report.plots`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

if TYPE_CHECKING:
    from flows.notebook import Explanation

EDITS = 3


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
