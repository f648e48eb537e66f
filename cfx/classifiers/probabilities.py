"""Answers that are probabilities, told apart from logits: what a network that ends in a softmax or a sigmoid gives away."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

WHOLE = (1.0, 100.0)  # what probabilities, or percentages, add up to
ENOUGH = 8  # images whose logits do not add up to the same by chance, even with the digits that half precision has
ENDS = (0.1, 0.9)  # a sigmoid that tells images apart comes nearer to 0 and to 1, and never passes them

Kind = Literal["softmax", "sigmoid", "sigmoid?", "logits"]


def kind_of(answers: NDArray[Any]) -> Kind:
    """What answers (n, K) look like.

    softmax: none is negative and every row adds up to 1, or to 100. sigmoid: all in [0, 1], and they come near both ends.
    sigmoid?: all in [0, 1], of ENOUGH images or more, but not near both ends. logits: anything else.
    """
    n, outputs = answers.shape
    if outputs > 1 and answers.min() >= 0:
        slack = 1e-3 if n >= ENOUGH else 1e-5
        if any(np.abs(answers.sum(1) / whole - 1).max() <= slack for whole in WHOLE):
            return "softmax"
    if n < ENOUGH or answers.min() < 0 or answers.max() > 1:
        return "logits"
    return "sigmoid" if answers.min() < ENDS[0] and answers.max() > ENDS[1] else "sigmoid?"
