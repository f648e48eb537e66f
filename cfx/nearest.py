"""The nearest other class: by a hierarchy of names, or by what the classifier confuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def nearest_in_hierarchy(paths: Mapping[str, Sequence[str]], classes: Sequence[str]) -> Tensor:
    """For each class the id of the class that shares most of its path from the root, (K,).

    paths: class name -> names from the root down to its parent, such as ("animal", "mammal", "cat"). Of equals the first in
    `classes` is taken. Raises ValueError naming classes without a path, or if there are fewer than two classes.
    """
    missing = [name for name in classes if name not in paths]
    if missing:
        raise ValueError(f"the hierarchy has no path for {', '.join(missing)}; give one for every class of the classifier")
    shared = [[_shared(paths[one], paths[other]) for other in classes] for one in classes]
    return _nearest(torch.tensor(shared, dtype=torch.float64), classes)


def nearest_by_confusion(confusion: Tensor, classes: Sequence[str]) -> Tensor:
    """For each class the id of the class it is most often confused with, either way, (K,).

    confusion: (K, K) counts, rows the true class, columns the predicted one; rows are compared as shares. Of equals the first in
    `classes` is taken. Raises ValueError if the matrix does not fit the classes.
    """
    if confusion.shape != (len(classes), len(classes)):
        raise ValueError(
            f"the confusion matrix is {tuple(confusion.shape)} for {len(classes)} classes; give one row and column each"
        )
    counts = confusion.double()
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    return _nearest(shares + shares.T, classes)


def confusion_matrix(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Counts (K, K) of true class (rows) and predicted class (columns), from class ids (N,) each."""
    return torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many steps from the root two paths have in common."""
    alike = [a == b for a, b in zip(one, other, strict=False)]
    return alike.index(False) if False in alike else len(alike)


def _nearest(closeness: Tensor, classes: Sequence[str]) -> Tensor:
    if len(classes) < 2:
        raise ValueError(f"the nearest other class needs two classes or more; there is {', '.join(classes) or 'none'}")
    others = closeness.masked_fill(torch.eye(len(classes), dtype=torch.bool), -torch.inf)
    return torch.tensor([row.index(max(row)) for row in others.tolist()])
