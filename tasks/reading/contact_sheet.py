"""A strip of explanations as one small image: inputs above, counterfactuals below."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps

from warehouse.lens.connect import open_warehouse
from warehouse.lens.wholeness import refuse_damaged

SHOWN, SIDE = 8, 96  # images; pixels

_BEST = """
    select images.png, explanations.png
    from explanations join images using (run_id, image_id) join runs using (run_id)
    where coalesce((config ->> 'thumbnails')::bool, true)
        and run_id = $run and arm = 'guided' and explanations.flipped and images.png is not null
    order by explanations.l1, image_id limit $n
"""


def strip(root: Path, run_id: str) -> bytes | None:
    """The flipped explanations that changed least, as PNG; None if none flipped, or where thumbnails are off.

    Raises DamagedRun.
    """
    with open_warehouse(root, sql=_BEST) as lens:
        refuse_damaged(lens, run_id)
        pairs = lens.execute(_BEST, {"run": run_id, "n": SHOWN}).fetchall()
    if not pairs:
        return None
    sheet = Image.new("RGB", (len(pairs) * SIDE, 2 * SIDE))
    for column, pair in enumerate(pairs):
        for row, png in enumerate(pair):
            with Image.open(io.BytesIO(png)) as image:
                sheet.paste(ImageOps.pad(image.convert("RGB"), (SIDE, SIDE)), (column * SIDE, row * SIDE))
    written = io.BytesIO()
    sheet.save(written, "PNG", optimize=True)
    return written.getvalue()
