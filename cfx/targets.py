"""Which class a counterfactual aims at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cfx.errors import UserError, did_you_mean
from cfx.nearest import Nearest, nearest_in_hierarchy
from cfx.random import derived_seed

POLICIES = ("opposite", "second-best", "each", "nearest-in-hierarchy", "most-confused")
LONGEST = 200  # characters of a name in a message

Hierarchy = Mapping[str, Sequence[str]]


def check_target(policy: str, classes: tuple[str, ...], hierarchy: Hierarchy | None = None, labels: Sequence[str] = ()) -> None:
    """Raises UserError, saying what is possible, unless `policy` fits a classifier with these classes.

    hierarchy: class -> names from the root down to its parent, for nearest-in-hierarchy; labels: the distinct labels of the
    images, for most-confused.
    """
    if policy == "opposite" and len(classes) != 2:
        raise UserError(
            f"target 'opposite' needs two classes, but the classifier has {len(classes)} ({shortened(classes)}); "
            "use 'second-best' or one of its classes"
        )
    if policy not in POLICIES and policy not in classes:
        known = (*POLICIES, *classes)
        use = shortened([repr(name) for name in known])
        raise UserError(f"unknown target class {policy!r}{did_you_mean(policy, known)}; use {use}")
    if policy == "nearest-in-hierarchy":
        if hierarchy is None:
            raise UserError("target 'nearest-in-hierarchy' needs `hierarchy`: for every class the names from the root down")
        nearest_in_hierarchy(hierarchy, classes)
    elif hierarchy is not None:
        raise UserError(f"`hierarchy` is for target 'nearest-in-hierarchy', but target is {policy!r}; use it or leave it out")
    if policy == "most-confused" and not labels:
        raise UserError("target 'most-confused' compares predictions with labels; set `data.label_column`")
    unknown = [name for name in labels if name not in classes]
    if policy == "most-confused" and unknown:
        raise UserError(
            f"target 'most-confused' compares predictions with labels, but the labels {shortened(unknown)} are none of the "
            f"classifier's classes ({shortened(classes)}); name `classifier.classes` as the labels are"
        )


def choose_targets(
    logits: Tensor,
    policy: str,
    classes: tuple[str, ...],
    nearest: Nearest | None = None,
    image_ids: Sequence[str] | None = None,
) -> Tensor:
    """Target class ids (B,) from logits (or probabilities) (B, K): the named class, or by policy another than the predicted one.

    opposite: the other of two classes. second-best: the runner-up. each: one of the others, drawn evenly by a hash of the image's
    id, so that every class is aimed at. nearest-in-hierarchy, most-confused: the most probable of the classes that `nearest`
    gives for the predicted one, or where it gives none the runner-up.
    An image that is already predicted as the named class needs no explanation: its id is then the predicted class itself.
    Raises UserError for a policy that needs `nearest` or `image_ids` where it is None.

    Examples:
        >>> logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
        >>> choose_targets(logits, "second-best", ("cat", "dog", "fox")).tolist()
        [1, 1]
        >>> choose_targets(logits, "fox", ("cat", "dog", "fox")).tolist()  # the second is a fox already
        [2, 2]
    """
    if policy not in POLICIES:
        return torch.full((len(logits),), classes.index(policy), device=logits.device)
    predicted = logits.argmax(1)
    if policy == "each":
        if image_ids is None:
            raise UserError(f"target {policy!r} is for a whole audit; for one image name a class or 'second-best'")
        further = torch.tensor([1 + derived_seed("target", name) % (len(classes) - 1) for name in image_ids])
        return (predicted + further.to(predicted.device)) % len(classes)
    others = logits.scatter(1, predicted[:, None], -torch.inf)
    if policy in ("nearest-in-hierarchy", "most-confused"):
        if nearest is None:
            raise UserError(f"target {policy!r} is worked out for a whole audit; for one image name a class or 'second-best'")
        for row, ids in zip(others, (nearest[source] for source in predicted.tolist()), strict=True):
            if ids:
                row[[i for i in range(len(classes)) if i not in ids]] = -torch.inf
    return others.argmax(1)


def shortened(names: Sequence[str], most: int = 20) -> str:
    """The names with commas between, the first few of many, and of a long one the beginning."""
    return ", ".join(name if len(name) <= LONGEST else f"{name[:LONGEST]}…" for name in names[:most]) + (
        f" … ({len(names)} in all)" if len(names) > most else ""
    )
