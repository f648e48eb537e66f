"""The oracle stage: which attributes each counterfactual changed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfx.attributes.oracle import Oracle, OracleConfig, load_oracle
from cfx.images import decode_png
from tasks.stages.predict import image_rows, read_batch
from warehouse.facts.shards import Shard, find_shard, read_shard, write_shard
from warehouse.lens.partial_sums import write_sums


def oracle_for(config: OracleConfig, device: str) -> Oracle:
    """The oracle of this configuration, loaded once a process."""
    return _oracle(config.model_dump_json(), device)


@cache  # by JSON, because a network's arguments are a dict and have no hash
def _oracle(config: str, device: str) -> Oracle:
    return load_oracle(OracleConfig.model_validate_json(config), device)


def predict_attributes(
    root: Path,
    run_id: str,
    images: Shard,
    explained: Shard,
    oracle_config: OracleConfig,
    target_attribute: str | None,
    batch_size: int,
    device: str,
) -> Shard:
    """Attribute probabilities before and after, one row an explanation, of the 8-bit pictures that people see; their sums."""
    shard = find_shard(root, "attributes", run_id, explained.key) or _predicted(
        root, run_id, images, explained, oracle_config, batch_size, device
    )
    write_sums(images, explained, shard, target_attribute)
    return shard


@torch.no_grad()
def _predicted(
    root: Path, run_id: str, images: Shard, explained: Shard, oracle_config: OracleConfig, batch_size: int, device: str
) -> Shard:
    oracle = oracle_for(oracle_config, device)

    def probabilities(pictures: Tensor) -> Tensor:
        answers = [oracle(x.to(device)).cpu() for x in pictures.split(batch_size)]
        return torch.cat(answers) if answers else torch.zeros(0, len(oracle.attributes))

    columns = ["image_id", "method", "arm", "seed", "png"]
    table = read_shard(explained, columns)
    row_of = {image_id: i for i, image_id in enumerate(image_rows(images))}
    inputs = probabilities(read_batch(images))
    before = inputs[[row_of[image_id] for image_id in table["image_id"].to_pylist()]]
    pngs = table["png"].to_pylist()
    after = probabilities(decode_png(pngs)) if pngs else before
    rows: dict[str, Any] = {name: table[name].to_pylist() for name in columns[:-1]}
    for i, attribute in enumerate(oracle.attributes):
        rows[f"p_{attribute}"] = before[:, i].tolist()
        rows[f"q_{attribute}"] = after[:, i].tolist()
        rows[f"d_{attribute}"] = (after - before)[:, i].tolist()
    return write_shard(root, "attributes", run_id, explained.key, rows)
