"""The retry ladder: those that did not flip are tried again, harder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from cfx.errors import UserError
from cfx.random import ImageNoise
from cfx.types import Classifier, Counterfactual

Rung = TypeVar("Rung")
Explain = Callable[[Rung, Tensor, Tensor, ImageNoise], Counterfactual]  # (rung, x, target, noise)


class Escalated(NamedTuple, Generic[Rung]):
    """The last attempt of every image."""

    x_cf: Tensor  # (B, 3, H, W) in [-1, 1]
    mask: Tensor  # (B, 1, H, W), NaN where the method has no mask
    attempt: Tensor  # (B,) index of the rung it ended on


def escalate(
    explain: Explain[Rung],
    classifier: Classifier,
    x: Tensor,
    target: Tensor,
    ladder: Sequence[Rung],
    image_ids: Sequence[str],
    seed: int,
) -> Escalated[Rung]:
    """Climb the ladder with the images that have not flipped yet; an image that never flips keeps its last attempt.

    Each attempt draws its own noise from (image id, seed, attempt), so a retry does not depend on who else failed.
    x: (B, 3, H, W) in [-1, 1]; target: (B,) class ids. Raises UserError for an empty ladder.

    Examples:
        A method that adds a constant, and a classifier of the mean: dark images need the second rung.

        >>> def lighten(step, x, target, noise):
        ...     return Counterfactual(x + step, None)
        >>> def bright(x):
        ...     return torch.stack([-x.mean((1, 2, 3)), x.mean((1, 2, 3))], dim=1)
        >>> x = torch.tensor([-0.1, -0.4]).view(2, 1, 1, 1).expand(2, 3, 8, 8)
        >>> escalate(lighten, bright, x, torch.tensor([1, 1]), (0.2, 0.5), ["a", "b"], seed=0).attempt.tolist()
        [0, 1]
    """
    if not ladder:
        raise UserError("the ladder is empty; give at least one method configuration")
    x_cf, attempt = x.clone(), torch.zeros(len(x), dtype=torch.long)
    mask = torch.full((len(x), 1, *x.shape[2:]), torch.nan, device=x.device)
    pending = torch.arange(len(x))
    for index, rung in enumerate(ladder):
        noise = ImageNoise.of([image_ids[i] for i in pending.tolist()], seed, index)
        found = explain(rung, x[pending], target[pending], noise)
        x_cf[pending], attempt[pending] = found.x_cf, index
        if found.mask is not None:
            mask[pending] = found.mask
        with torch.no_grad():
            flipped = classifier(found.x_cf).argmax(1) == target[pending]
        pending = pending[~flipped.cpu()]
        if not len(pending):
            break
    return Escalated(x_cf, mask, attempt)
