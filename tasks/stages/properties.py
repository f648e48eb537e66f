"""The property stage: what can be measured on every image and its file without any model."""

from __future__ import annotations

from typing import Any

import torch

from cfx.evidence.properties import file_facts, properties
from tasks.data.files import stamps, whole_of
from tasks.run import Run
from tasks.shard_images import read_images
from tasks.stage import Rows, stage
from warehouse.facts.shards import Shard, read_shard

SMALLEST = 16  # pixels of a side: on smaller images nothing is measured


@stage("properties")
def measure_properties(run: Run, images: Shard) -> Rows:
    """Measured properties of the images of one shard, at audit size; facts of the files as they came."""
    ids, x = read_images(images)
    if min(x.shape[-2:]) < SMALLEST:
        return {"image_id": []}
    pixels = ((x + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    files = read_shard(images, ["path", "width", "height"]).to_pylist()
    sizes = stamps(run.config.data.images, [file["path"] for file in files])
    rows: dict[str, list[Any]] = {"image_id": ids}
    for image, file in zip(pixels, files, strict=True):
        name, part = whole_of(file["path"])
        known: dict[str, float | None] = {**file_facts(file["width"], file["height"], max(1, sizes[name][0]))}
        if part is not None or sizes[name][0] < 1:  # inside an archive, or gone by now: its own size is not known
            known["bits_per_pixel"] = None
        for measured, value in (properties(image) | known).items():
            rows.setdefault(f"m_{measured}", []).append(value)
    return rows
