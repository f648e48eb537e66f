"""Regions of the images: what can change the answer inside each, with one explanation of each in pictures.

Which is shown is a rule, not a choice: of the explanations that flip, in order of how far the answer moves beyond the null, the
one in the middle; where none flips, the one that moves it furthest (EVIDENCE: `region_picks`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from warehouse.lens.fetch import Row, fetch
from warehouse.report.gallery import data_uri, masked, picture, pixels_of

Pngs = Mapping[tuple[str, str], bytes | None]  # by the kind of picture and the region

_PICTURES = """
    select region, arm, e.png, region_png, images.png as input
    from region_explanations e
    join (select run_id, coalesce((config ->> 'thumbnails')::bool, true) as shown from runs) using (run_id)
    left join images using (run_id, image_id)
    where run_id = $run and shown and {chosen}
"""


@dataclass(frozen=True)
class RegionShown:
    """A region's row of the view `regions`, its attributes' rows of `region_shifts`, and one explanation: its row of the picks
    and its pictures as data URIs, None where the warehouse holds none."""

    row: Row
    shifts: tuple[Row, ...]
    pick: Row | None
    where: str | None  # the input with the region, all else paled
    after: str | None
    null: str | None


def ask_regions(lens: duckdb.DuckDBPyConnection, run_id: str, picks: Sequence[Row]) -> dict[tuple[str, str], bytes | None]:
    """PNG bytes of the picked explanations; none where the run's configuration says `thumbnails: false`."""
    if not picks:
        return {}
    ids = {f"image_{i}": row["image_id"] for i, row in enumerate(picks)}
    values = (
        ids
        | {f"region_{i}": row["region"] for i, row in enumerate(picks)}
        | {f"seed_{i}": row["seed"] for i, row in enumerate(picks)}
    )
    chosen = " or ".join(f"(e.image_id = $image_{i} and region = $region_{i} and e.seed = $seed_{i})" for i in range(len(picks)))
    pngs: dict[tuple[str, str], bytes | None] = {}
    for row in fetch(lens, _PICTURES.format(chosen=f"({chosen})"), run=run_id, **values):
        pngs |= {(row["arm"], row["region"]): row["png"], ("where", row["region"]): row["region_png"]}
        pngs["input", row["region"]] = row["input"]
    return pngs


def regions_shown(rows: Sequence[Row], shifts: Sequence[Row], picks: Sequence[Row], pngs: Pngs) -> list[RegionShown]:
    """The regions in the order of their rows."""
    picked = {row["region"]: row for row in picks}

    def shown(row: Row) -> RegionShown:
        name = row["region"]
        x, inside = pngs.get(("input", name)), pngs.get(("where", name))
        where = _outlined(x, inside) if x and inside else None
        own = tuple(each for each in shifts if each["region"] == name)
        return RegionShown(
            row, own, picked.get(name), where, picture(pngs.get(("guided", name))), picture(pngs.get(("null", name)))
        )

    return [shown(row) for row in rows]


def _outlined(png: bytes, region_png: bytes) -> str | None:
    x, inside = pixels_of(png), pixels_of(region_png)
    return data_uri(masked(x, inside)) if x.shape == inside.shape else None
