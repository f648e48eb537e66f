"""Which class to ask a counterfactual for."""

from __future__ import annotations

import torch
from torch import Tensor

POLICIES = ("opposite", "second-best")


def check_target(policy: str, classes: tuple[str, ...]) -> None:
    """Raises ValueError, saying what is possible, unless `policy` fits a classifier with these classes."""
    if policy == "opposite" and len(classes) != 2:
        raise ValueError(
            f"target 'opposite' needs two classes, but the classifier has {len(classes)} ({', '.join(classes)}); "
            "use 'second-best' or one of its classes"
        )
    if policy not in POLICIES and policy not in classes:
        raise ValueError(f"unknown target class {policy!r}; use {', '.join(repr(name) for name in (*POLICIES, *classes))}")


def choose_targets(logits: Tensor, policy: str, classes: tuple[str, ...]) -> Tensor:
    """Target class ids (B,) from logits (B, K): the other of two classes, the runner-up, or the named class.

    An image that is already predicted as its target needs no explanation: its id is then the predicted class itself.
    """
    check_target(policy, classes)
    if policy in POLICIES:
        return logits.topk(2, dim=1).indices[:, 1]  # of two classes the runner-up is the opposite
    return torch.full((len(logits),), classes.index(policy), device=logits.device)
