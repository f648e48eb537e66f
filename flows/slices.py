"""Precision at k of a finding's card: of the images that carry it most, how many carry what was planted.

As slice discovery is graded (Domino, Eyuboglu et al. 2022, arXiv:2203.14960), so that results can be compared. A property can
decide by being low: then the images that carry it least are the slice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path

from warehouse.lens.fetch import fetch
from warehouse.lens.listed_runs import open_run
from warehouse.report.queries import EVIDENCE, evidence

PATHS = "select image_id, path from images where run_id = $run"


def precision_at_k(root: Path, run_id: str, names: Collection[str], carries: Callable[[str], bool]) -> float | None:
    """Of the 12 images on the better side of the first card of these findings; None where none of them has a card.

    carries: whether the image of this file carries what was planted.
    """
    with closing(open_run(root, f"{EVIDENCE['carriers']};{PATHS}", run_id)) as lens:
        rows = [row for row in evidence(lens, "carriers", run_id).rows if row["name"] in names]
        paths = {row["image_id"]: row["path"] for row in fetch(lens, PATHS, run=run_id)}
    card = [row for row in rows if (row["kind"], row["name"]) == (rows[0]["kind"], rows[0]["name"])]
    sides = [[carries(paths[row["image_id"]]) for row in card if row["most"] is most] for most in (True, False)]
    return max((sum(side) / len(side) for side in sides if side), default=None)
