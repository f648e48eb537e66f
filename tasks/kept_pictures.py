"""A few of the images that probes and transplants made, kept to be seen: of each claim the strongest, the median and the weakest.

What was asked was thrown away; the same images are made again, bit by bit, from the inputs. The report shows the same three
(`warehouse.report.queries`: `moved`, `pasted`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from cfx.evidence import probes, transplant
from cfx.evidence.paired import Floats, Images
from cfx.images import encode_png
from tasks.sample import Sample, as_tensor

CLAIMS = 6  # properties of a class, and places of one, at most

Rows = Sequence[dict[str, Any]]


def keep_probed(rows: Rows, claims: Iterable[dict[str, Any]], sample: Sample) -> None:
    """Put pictures into `moved_png` of the probes' rows of one class; claims: its rows of `property_claims`, strongest first."""
    for claim in [claim for claim in claims if claim["kind"]][:CLAIMS]:
        mine = _by_image(row for row in rows if row["probe"] == claim["property"] and row["counted"])

        def far(pair: Rows, kind: str = claim["kind"], way: float = float(np.sign(claim["effect"]))) -> float:
            down, up = pair
            if kind == "fragile":
                return float(max(abs(row["p_after"] - row["p_before"]) for row in pair))
            return way * float(up["p_after"] - down["p_after"])

        for row in (row for pair in three(mine, far) for row in pair):
            if row["strength"] or (row["probe"] == probes.MIRROR and row["direction"] == "up"):
                image = sample.images[[sample.ids.index(row["image_id"])]]
                row["moved_png"] = _png(probes.probed(image, row["probe"], np.array([row["strength"]])))


def keep_pasted(rows: Rows, claims: Iterable[dict[str, Any]], sample: Sample, places: Floats) -> None:
    """Put pictures into `pasted_png` of the transplants' rows of one class; claims: its rows of `place_claims`.

    places: the weights (M, H, W) that were pasted with.
    """
    unnamed = [claim for claim in claims if claim["unnamed"]]
    unnamed.sort(key=lambda claim: (claim["beyond_label"] is False, -claim["effect"]))
    for claim in unnamed[:CLAIMS]:
        mine = _by_image(row for row in rows if row["place"] == claim["place"])
        for row in (row for pair in three({i: pair for i, pair in mine.items() if pair[0]["other"]}, _towards) for row in pair):
            receiver, donor = (np.array([sample.ids.index(row[name])]) for name in ("image_id", "donor_id"))
            row["pasted_png"] = _png(transplant.transplanted(sample.images, receiver, donor, places[claim["place"]]))


def three(images: dict[str, Rows], far: Callable[[Rows], float]) -> list[Rows]:
    """The rows of the strongest, the median and the weakest image; `far`: how far an image's answer moved.

    Examples:
        >>> rows = {name: [{"moved": moved}] for name, moved in (("a", 1), ("b", 4), ("c", 3), ("d", 2))}
        >>> [row["moved"] for [row] in three(rows, lambda rows: rows[0]["moved"])]
        [4, 3, 1]
    """
    ordered = [images[name] for name in sorted(images, key=lambda name: (-far(images[name]), name))]
    return [ordered[i] for i in sorted({0, (len(ordered) - 1) // 2, len(ordered) - 1})] if ordered else []


def _towards(pair: Rows) -> float:
    """How far a place moved the answer towards the donor's class, more than one from an image that is answered alike."""
    (other, *same), way = pair, -1 if pair[0]["p_before"] > 0.5 else 1
    return float(way * (other["p_after"] - (same[0]["p_after"] if same else other["p_before"])))


def _by_image(rows: Iterable[dict[str, Any]]) -> dict[str, Rows]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["image_id"], []).append(row)
    return dict(found)


def _png(images: Images) -> bytes:
    (png,) = encode_png(as_tensor(images))
    return png
