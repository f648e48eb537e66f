"""Nulls in which no classifier had a part, taken over by the next audit of the same images in this process: a twin's, a canary's.

Without guidance DiME, FastDiME and DVCE ask the classifier nothing (MaskDiME does, for its mask), so an image's null is the same
whoever is audited: bit for bit on a CPU, where results do not depend on the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cfx.types import Classifier
from tasks.cost import Cost
from tasks.explainer import Explainer, Targets
from tasks.progress import advance
from tasks.run import Run

Nulls = tuple[Tensor, Tensor, list[Cost]]  # x_cf (N, 3, H, W), mask (N, 1, H, W), NaN where there is none, and what each cost
MOST = 64 * 2**20  # bytes of images that are kept
AUDITED = ("classifier", "judge", "oracle", "data")  # fingerprints that say nothing of a null


class Null(NamedTuple):
    """One of them: (3, H, W) and (1, H, W)."""

    x_cf: Tensor
    mask: Tensor
    cost: Cost


class _Shared:
    """What was drawn in the body of `nulls_shared`; None outside."""

    nulls: dict[Hashable, Null] | None = None


class Observed:
    """A classifier that notes whether it was asked."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier, self.asked = classifier, False

    @property
    def classes(self) -> tuple[str, ...]:
        return self.classifier.classes

    @property
    def differentiable(self) -> bool:
        return self.classifier.differentiable

    def __call__(self, x: Tensor) -> Tensor:
        self.asked = True
        return self.classifier(x)


@contextmanager
def nulls_shared() -> Iterator[None]:
    """In the body audits of this process take over each other's nulls, up to MOST bytes of them."""
    outer = _Shared.nulls
    _Shared.nulls = {} if outer is None else outer
    try:
        yield
    finally:
        _Shared.nulls = outer


def taken_over(
    run: Run,
    draw: Callable[..., Nulls],
    explainer: Explainer,
    targets: Targets,
    attempt: Tensor,
    seed: int,
    known: Any = None,
) -> Nulls:
    """What `draw(explainer, targets, attempt, seed, known)` returns, drawn for the images alone whose null is not there yet."""
    nulls, rungs = _Shared.nulls, attempt.tolist()
    if nulls is None or not rungs or targets.x.device.type != "cpu" or explainer.prompted is not None:
        return draw(explainer, targets, attempt, seed, known)
    prior = tuple(sorted((name, value) for name, value in run.fingerprints.items() if name not in AUDITED and value is not None))
    methods = [method.model_copy(update={"scale": 0.0}).model_dump_json() for method in explainer.ladder]
    keys = [
        (prior, methods[rung], seed, rung, image_id, hashlib.sha256(one.numpy().tobytes()).digest())
        for rung, image_id, one in zip(rungs, targets.image_ids, targets.x, strict=True)
    ]
    missing = [i for i, key in enumerate(keys) if key not in nulls]
    found = {i: nulls[key] for i, key in enumerate(keys) if key in nulls}
    advance(len(found), sum(null.cost.nfe_forward for null in found.values()))
    if missing:
        observed = Observed(explainer.guide or explainer.classifier)
        ids, x, target = targets
        some = targets._replace(image_ids=[ids[i] for i in missing], x=x[missing], target=target[missing])
        drawn = draw(replace(explainer, guide=observed), some, attempt[missing], seed, known)
        made = [Null(*one) for one in zip(*drawn, strict=True)]
        found |= dict(zip(missing, made, strict=True))
        if not observed.asked:
            _keep(nulls, [keys[i] for i in missing], made)
    x_cf, masks, costs = zip(*(found[i] for i in range(len(keys))), strict=True)
    return torch.stack(x_cf), torch.stack(masks), list(costs)


def _keep(nulls: dict[Hashable, Null], keys: Sequence[Hashable], made: Sequence[Null]) -> None:
    """As many as there is room for, each in memory of its own."""
    size = made[0].x_cf.nbytes + made[0].mask.nbytes
    for key, null in list(zip(keys, made, strict=True))[: max(0, MOST // size - len(nulls))]:
        nulls[key] = Null(null.x_cf.clone(), null.mask.clone(), null.cost)
