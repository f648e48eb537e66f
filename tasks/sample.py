"""Which images are looked at beyond names, and what is known of them: a sample, of each predicted class alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cfx.evidence.paired import Floats, Images
from tasks.shard_images import read_images
from warehouse.facts.shards import Shard, read_shard

LOOKED_AT = 96  # images at most, of each predicted class alike: what is measured does not become clearer with thousands


@dataclass(frozen=True)
class Sample:
    """The images that are looked at, and what is known of them."""

    ids: list[str]
    paths: list[str]
    images: Images  # (N, H, W, 3) uint8
    p: Floats  # (N, K)
    labels: list[str | None]
    annotations: dict[str, Floats]  # by name, (N,) 0 or 1, the mean of what is known where it is unknown


def drawn(images: Sequence[Shard], predicted: Sequence[Shard]) -> Sample:
    """Up to LOOKED_AT images by a hash of their ids, the predicted classes in turn; neither order nor shards matter."""
    answers = pa.concat_tables([read_shard(shard, ["image_id", "class", "probabilities"]) for shard in predicted])
    by_class: dict[str, list[str]] = {}
    for image_id, name in sorted(zip(answers["image_id"].to_pylist(), answers["class"].to_pylist(), strict=True), key=_lot):
        by_class.setdefault(name, []).append(image_id)
    turns = [(turn, name, image_id) for name, ids in by_class.items() for turn, image_id in enumerate(ids)]
    chosen = [image_id for _, _, image_id in sorted(turns)][:LOOKED_AT]
    rows = {row["image_id"]: row for shard in images for row in _rows_of(shard, set(chosen))}
    p = dict(zip(answers["image_id"].to_pylist(), answers["probabilities"].to_pylist(), strict=True))
    known = [rows[image_id] for image_id in chosen]
    pixels = np.stack([row["pixels"] for row in known]) if known else np.zeros((0, 1, 1, 3), np.uint8)
    annotated = [name for name in (known[0] if known else {}) if name.startswith("a_")]
    annotations = {name: [row[name] for row in known] for name in annotated}
    filled = {name[2:]: mean_where_unknown(values) for name, values in annotations.items() if set(values) != {None}}
    paths = [row["path"] for row in known]
    return Sample(chosen, paths, pixels, np.array([p[i] for i in chosen]), [row["label"] for row in known], filled)


def mean_where_unknown(values: Sequence[bool | None]) -> Floats:
    """Yes and no as 1 and 0; the mean of those where it is unknown, so that one empty cell does not cost the whole column."""
    bits = np.array([np.nan if value is None else value for value in values], float)
    return np.where(np.isnan(bits), np.nanmean(bits), bits)


def _lot(row: tuple[str, str]) -> bytes:
    return hashlib.blake2b(row[0].encode(), digest_size=8).digest()


def _rows_of(shard: Shard, wanted: set[str]) -> Iterator[dict[str, Any]]:
    ids = read_shard(shard, ["image_id"])["image_id"].to_pylist()
    if wanted.isdisjoint(ids):
        return
    table = read_shard(shard)
    rows = table.drop_columns(["png"]).to_pylist()
    for row, image in zip(rows, _bytes(read_images(shard).x), strict=True):
        if row["image_id"] in wanted:
            yield row | {"pixels": image}


def as_tensor(images: Images) -> torch.Tensor:
    """(N, H, W, C) uint8 as (N, C, H, W) in [-1, 1], as networks see them."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _bytes(x: torch.Tensor) -> Images:
    """(N, C, H, W) in [-1, 1] as (N, H, W, C) uint8."""
    pixels: Images = ((x + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels
