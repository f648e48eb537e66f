"""The attribute stage: which attributes each counterfactual changed."""

from __future__ import annotations

from typing import Any

from cfx.images import decode_png
from tasks.run import Run
from tasks.shard_images import read_images
from tasks.stage import Rows, stage
from warehouse.facts.shards import Shard, read_shard
from warehouse.lens.partial_sums import write_sums

COLUMNS = ("image_id", "method", "arm", "seed")


def attributes(run: Run, images: Shard, explained: Shard) -> Shard:
    """What the oracle says of a shard, and the exact sums over it, which many questions are answered from."""
    shard = predict_attributes(run, images, explained)
    write_sums(run.root, images, explained, shard, run.config.target_attribute)
    return shard


@stage("attributes")
def predict_attributes(run: Run, images: Shard, explained: Shard) -> Rows:
    """Attribute probabilities before and after, one row an explanation, of the 8-bit images that people see."""
    oracle, (ids, x) = run.oracle(), read_images(images)
    table = read_shard(explained, [*COLUMNS, "png"])
    place = {image_id: i for i, image_id in enumerate(ids)}
    before = run.batched(oracle, x)[[place[image_id] for image_id in table["image_id"].to_pylist()]]
    pngs = table["png"].to_pylist()
    after = run.batched(oracle, decode_png(pngs)) if pngs else before
    rows: dict[str, Any] = {name: table[name].to_pylist() for name in COLUMNS}
    for i, attribute in enumerate(oracle.attributes):
        rows[f"p_{attribute}"] = before[:, i].tolist()
        rows[f"q_{attribute}"] = after[:, i].tolist()
        rows[f"d_{attribute}"] = (after - before)[:, i].tolist()
    return rows
