"""The stage that looks outside the attributes: the classifier asked what explanations change where the oracle does not look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cfx.attributes.outside import mean_in_cells, named_cells, residual
from cfx.images import decode_png
from cfx.metrics.agreement import change_map
from tasks.run import Run
from tasks.shard_images import read_images
from tasks.stage import Rows, stage
from warehouse.facts.shards import Shard, read_shard

KEY = ["image_id", "method", "seed"]


@stage("residuals")
@torch.no_grad()
def ask_residual(run: Run, images: Sequence[Shard], explained: Sequence[Shard]) -> Rows:
    """Query what the changes outside the attributes do, on the first images that are edited: two queries each, first seed."""
    x, rows, null, guided = _first(images, explained, run.config.interventions.images)
    named = named_cells(lambda part: run.batched(run.oracle(), part), x)
    here = x[[row["place"] for row in rows]]
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in (*KEY, "target")}
    columns["named"] = [named.flatten().nonzero()[:, 0].tolist()] * len(rows)
    columns["probabilities_before"] = run.probabilities(here).tolist()
    for arm, x_cf in (("null", null), ("guided", guided)):
        columns[f"probabilities_{arm}"] = run.probabilities(residual(here, x_cf, named)).tolist()
        columns[f"change_{arm}"] = mean_in_cells(change_map(here, x_cf)).flatten(1).tolist()
    return columns


def _first(
    images: Sequence[Shard], explained: Sequence[Shard], limit: int
) -> tuple[Tensor, list[dict[str, Any]], Tensor, Tensor]:
    """The first `limit` pictures; a row for each explanation of one that has its null, with its `place` among the pictures; the
    null's counterfactuals and the guided ones, in the order of the rows."""
    kept, rows, null, guided = [], [], [], []
    start = 0
    for shard, made in zip(images, explained, strict=True):
        ids, shown = read_images(shard)
        ids = ids[: limit - start]
        if not ids:
            break
        kept.append(shown[: len(ids)])
        place = {image_id: start + i for i, image_id in enumerate(ids)}
        start += len(ids)
        table = read_shard(made, [*KEY, "arm", "target", "png"]).to_pylist()
        first = min((row["seed"] for row in table), default=0)
        arms: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {"null": {}, "guided": {}}
        for row in table:
            if row["image_id"] in place and row["seed"] == first:
                arms[row["arm"]][tuple(row[name] for name in KEY)] = row
        for key, row in arms["guided"].items():
            if key in arms["null"]:
                rows.append(row | {"place": place[row["image_id"]]})
                null.append(arms["null"][key]["png"])
                guided.append(row["png"])
    x = torch.cat(kept)
    return x, rows, decode_png(null) if rows else x[:0], decode_png(guided) if rows else x[:0]
