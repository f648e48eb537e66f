"""The nearest other classes: by a hierarchy of names, or by what the classifier confuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cfx.errors import UserError

Nearest = list[list[int]]  # for each class the ids of the classes nearest to it; none where no class is nearer than another


def nearest_in_hierarchy(paths: Mapping[str, Sequence[str]], classes: Sequence[str]) -> Nearest:
    """The classes that share most of a class's path from the root.

    paths: class name -> names from the root down to its parent, such as ("animal", "mammal", "cat"). Raises UserError naming
    classes without a path and paths without a class, or if there are fewer than two classes.
    """
    missing, unknown = [name for name in classes if name not in paths], [name for name in paths if name not in classes]
    if missing or unknown:
        problems = [f"has no path for {', '.join(missing)}"] if missing else []
        problems += [f"names {', '.join(unknown)}, which the classifier does not know"] if unknown else []
        raise UserError(f"the hierarchy {' and '.join(problems)}; give one path for every class of the classifier")
    shared = [[_shared(paths[one], paths[other]) for other in classes] for one in classes]
    return _nearest(torch.tensor(shared, dtype=torch.float64), classes)


def nearest_by_confusion(confusion: Tensor, classes: Sequence[str]) -> Nearest:
    """The class that each class is most often confused with, either way.

    confusion: (K, K) counts, rows the true class, columns the predicted one; rows are compared as shares. Raises UserError if
    the matrix does not fit the classes.
    """
    if confusion.shape != (len(classes), len(classes)):
        raise UserError(
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


def _nearest(closeness: Tensor, classes: Sequence[str]) -> Nearest:
    if len(classes) < 2:
        raise UserError(f"the nearest other class needs two classes or more; there is {', '.join(classes) or 'none'}")
    others = closeness.clone().fill_diagonal_(0)
    most = others.amax(1, keepdim=True)
    return [torch.nonzero(row)[:, 0].tolist() for row in (others == most) & (most > 0)]
