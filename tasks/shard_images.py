"""The images of a shard: read once, as names and pixels together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from cfx.images import decode_png
from warehouse.facts.shards import Shard, read_shard


class Images(NamedTuple):
    """Images in the order of their shard."""

    ids: list[str]  # SHA-256 of each file, hex
    x: Tensor  # (N, 3, H, W) in [-1, 1], at audit size


def read_images(shard: Shard) -> Images:
    """Ids and pixels of a shard of `images`."""
    table = read_shard(shard, ["image_id", "png"])
    return Images(table["image_id"].to_pylist(), decode_png(table["png"].to_pylist()))


def read_chosen(shards: Sequence[Shard], ids: Sequence[str]) -> Images:
    """These images, in the order of `ids`, of the shards that hold them."""
    wanted = pa.array(ids, pa.string())
    tables = [read_shard(shard, ["image_id", "png"]) for shard in shards]
    rows = pa.concat_tables([table.filter(pc.is_in(table["image_id"], wanted)) for table in tables])
    pngs = dict(zip(rows["image_id"].to_pylist(), rows["png"].to_pylist(), strict=True))
    return Images(list(ids), decode_png([pngs[image_id] for image_id in ids]))


def pixels(shards: Sequence[Shard]) -> Tensor:
    """All images of these shards, (N, 3, H, W) uint8."""
    return torch.cat([((read_images(shard).x + 1) * 127.5).round().to(torch.uint8) for shard in shards if shard.rows])
