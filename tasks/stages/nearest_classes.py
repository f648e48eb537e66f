"""Which classes are nearest to which: worked out once an audit, from its hierarchy or from all its predictions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cfx.nearest import Nearest, confusion_matrix, nearest_by_confusion, nearest_in_hierarchy
from tasks.run import Run
from warehouse.facts.shards import Shard, read_shard


def nearest_classes(run: Run, images: Sequence[Shard], predicted: Sequence[Shard]) -> Nearest | None:
    """For each class its nearest ones; none for a policy that does not ask.

    most-confused counts every labelled image of the audit, so that results do not depend on shards.
    """
    policy, hierarchy, classes = run.config.target, run.config.hierarchy, run.classes
    if policy == "nearest-in-hierarchy":
        assert hierarchy is not None  # the configuration was checked
        return nearest_in_hierarchy(hierarchy, classes)
    if policy != "most-confused":
        return None
    confusion = torch.zeros(len(classes), len(classes), dtype=torch.long)
    for shard, answers in zip(images, predicted, strict=True):
        both = zip(_column(shard, "label"), _column(answers, "class"), strict=True)
        pairs = [(classes.index(label), classes.index(predicted_class)) for label, predicted_class in both if label]
        labels, answered = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(1)
        confusion += confusion_matrix(labels, answered, len(classes))
    return nearest_by_confusion(confusion, classes)


def _column(shard: Shard, name: str) -> list[str]:
    values: list[str] = read_shard(shard, [name])[name].to_pylist()
    return values
