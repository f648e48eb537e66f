"""The stage that looks outside the attributes: the classifier asked what explanations change where the oracle does not look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfx.attributes.oracle import OracleConfig
from cfx.attributes.outside import mean_in_cells, named_cells, rest_of
from cfx.classifiers import AnyClassifier
from cfx.images import decode_png
from cfx.metrics.agreement import change_map
from tasks.stages.attributes import oracle_for
from tasks.stages.predict import classifier_for, image_rows, read_batch
from tasks.stages.queries import answers_of
from warehouse.facts.shards import Shard, find_shard, read_shard, write_shard

KEY = ["image_id", "method", "seed"]


@torch.no_grad()
def ask_rest(
    root: Path,
    run_id: str,
    images: Sequence[Shard],
    explained: Sequence[Shard],
    limit: int,
    oracle_config: OracleConfig,
    classifier_config: AnyClassifier,
    batch_size: int,
    device: str,
) -> Shard:
    """Ask what the changes outside the attributes do, on the first `limit` images: two questions each, for their first seed."""
    done = find_shard(root, "residuals", run_id, "all")
    if done is not None:
        return done
    oracle, classifier = oracle_for(oracle_config, device), classifier_for(classifier_config, device, answers_of(root, run_id))

    def seen(pictures: Tensor) -> Tensor:
        return torch.cat([oracle(part.to(device)).cpu() for part in pictures.split(batch_size)])

    def probabilities(pictures: Tensor) -> list[list[float]]:
        answers = [classifier(part.to(device)).softmax(1).cpu() for part in pictures.split(batch_size)]
        return [row for answer in answers for row in answer.tolist()]

    x, rows, null, guided = _first(images, explained, limit)
    named = named_cells(seen, x)
    here = x[[row["place"] for row in rows]]
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in (*KEY, "target")}
    columns["named"] = [named.flatten().nonzero()[:, 0].tolist()] * len(rows)
    columns["probabilities_before"] = probabilities(here)
    for arm, x_cf in (("null", null), ("guided", guided)):
        columns[f"probabilities_{arm}"] = probabilities(rest_of(here, x_cf, named))
        columns[f"change_{arm}"] = mean_in_cells(change_map(here, x_cf)).flatten(1).tolist()
    return write_shard(root, "residuals", run_id, "all", columns)


def _first(
    images: Sequence[Shard], explained: Sequence[Shard], limit: int
) -> tuple[Tensor, list[dict[str, Any]], Tensor, Tensor]:
    """The first `limit` pictures; a row for each explanation of one that has its null, with its `place` among the pictures; the
    null's counterfactuals and the guided ones, in the order of the rows."""
    taken, rows, null, guided = [], [], [], []
    start = 0
    for shard, made in zip(images, explained, strict=True):
        ids = image_rows(shard)[: limit - start]
        if not ids:
            break
        taken.append(read_batch(shard)[: len(ids)])
        place = {image_id: start + i for i, image_id in enumerate(ids)}
        start += len(ids)
        told = read_shard(made, [*KEY, "arm", "target", "png"]).to_pylist()
        first = min((row["seed"] for row in told), default=0)
        arms: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {"null": {}, "guided": {}}
        for row in told:
            if row["image_id"] in place and row["seed"] == first:
                arms[row["arm"]][tuple(row[name] for name in KEY)] = row
        for key, row in arms["guided"].items():
            if key in arms["null"]:
                rows.append(row | {"place": place[row["image_id"]]})
                null.append(arms["null"][key]["png"])
                guided.append(row["png"])
    x = torch.cat(taken)
    return x, rows, decode_png(null) if rows else x[:0], decode_png(guided) if rows else x[:0]
