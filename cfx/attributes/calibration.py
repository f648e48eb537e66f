"""Calibration of scores: a slope and an offset that make log-odds of them, and how well they then agree with annotations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binomtest
from skimage.filters import threshold_otsu
from sklearn.linear_model import LogisticRegression

from cfx.types import Config

FEW = 8  # images with the attribute, and without: fewer fit no line
OWN = 1.0  # slope of the scores as the model scales them
CERTAIN = 2.0  # log-odds of the middle of each half of a split, .88
DIGITS = 4  # that are kept, so that the same line comes out of another processor's last bits
TWO_GROUPS = 0.75  # of the variance lies between the halves: a normal distribution, cut in the middle, has 2/pi = .64

Floats = NDArray[np.float64]


class Line(Config):
    """Log-odds of an attribute: slope times score plus offset."""

    slope: float = Field(gt=0, description="log-odds a unit of score")
    offset: float = Field(description="log-odds at a score of 0")


class Agreement(NamedTuple):
    """Balanced accuracy against annotations, with its 95 % interval, over images that have the attribute and that do not."""

    balanced_accuracy: float | None  # None where either side has no image
    low: float | None
    high: float | None
    having: int
    lacking: int


def platt(scores: Floats, truth: NDArray[np.bool_]) -> Line | None:
    """Logistic regression of the annotations on the scores, both (N,), as if half of the images had the attribute.

    The targets are Platt's (1999), (N+ + 1) / (N+ + 2) and 1 / (N- + 2), so that scores without an overlap get no endless slope.
    On few images they make it flatter than it is: where the model's own scale, a slope of 1, is steeper and fits the annotations
    better, it is kept, with the offset that these targets ask for. Half of each, because a sample says little of how frequent an
    attribute is, and a rare one would never be named. None with fewer than FEW images of a side, and where the scores fall with
    the annotation: a line must not turn words into their contrary.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> truth = np.arange(20_000) % 2 == 0
        >>> line = platt(rng.normal(truth * 2.0, 1.0), truth)  # two normals, 2 apart: log-odds are 2 s - 2
        >>> round(line.slope, 1), round(line.offset, 1)
        (2.0, -2.0)
    """
    having, lacking = int(truth.sum()), int((~truth).sum())
    if min(having, lacking) < FEW or np.ptp(scores) == 0:
        return None
    target = np.where(truth, (having + 1) / (having + 2), 1 / (lacking + 2))
    half = np.where(truth, 0.5 / having, 0.5 / lacking) * len(truth)
    centre, scale = float(scores.mean()), float(scores.std())
    column = np.concatenate([scores, scores])[:, None]
    model = LogisticRegression(C=1e6, max_iter=1_000)
    sides = np.repeat([True, False], len(scores))
    model.fit((column - centre) / scale, sides, sample_weight=np.concatenate([half * target, half * (1 - target)]))
    slope = float(model.coef_[0, 0]) / scale
    if slope <= 0:
        return None
    fitted = slope, float(model.intercept_[0]) - slope * centre
    own = OWN, _offset(OWN * scores, target, half)
    return _line(*(own if slope < OWN and _loss(own, scores, truth, half) < _loss(fitted, scores, truth, half) else fitted))


def _offset(log_odds: Floats, target: Floats, weight: Floats) -> float:
    """What log-odds lack on average for their probabilities to be the targets, all (N,)."""
    reach = float(np.abs(log_odds).max()) + 20
    return float(brentq(lambda offset: float((weight * (expit(log_odds + offset) - target)).sum()), -reach, reach))


def _loss(line: tuple[float, float], scores: Floats, truth: NDArray[np.bool_], weight: Floats) -> float:
    """Weighted negative log-likelihood of the annotations."""
    agrees = np.where(truth, 1, -1) * (line[0] * scores + line[1])
    return float((weight * np.logaddexp(0, -agrees)).sum())


class Split(NamedTuple):
    """Scores cut in two without annotations. share: of the images above; between: share of the variance that lies between."""

    line: Line
    share: float
    between: float


def split_in_two(scores: Floats) -> Split | None:
    """The cut of scores (N,) that leaves the halves most alike in themselves (Otsu 1979).

    Not the median, which would say that half of the images have any attribute. The middles of the halves get the log-odds -2
    and 2. None where all scores are the same.

    Examples:
        >>> split = split_in_two(np.array([0.0] * 30 + [4.0] * 10))
        >>> split.line.slope, split.share, split.between
        (1.0, 0.25, 1.0)
    """
    if np.ptp(scores) == 0:
        return None
    above = scores > threshold_otsu(scores)
    high, low = float(scores[above].mean()), float(scores[~above].mean())
    share = float(above.mean())
    slope = 2 * CERTAIN / (high - low)
    between = share * (1 - share) * (high - low) ** 2 / float(scores.var())
    return Split(_line(slope, -slope * (high + low) / 2), share, between)


def agreement(said: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Agreement:
    """Of what is said (N,) with annotations (N,): the mean of the shares that are right with and without the attribute.

    Its interval is made of the two shares' Wilson intervals (Newcombe 1998).

    Examples:
        >>> found = agreement(np.array([True] * 9 + [False] * 11), np.array([True] * 10 + [False] * 10))
        >>> round(found.balanced_accuracy, 2), round(found.low, 2), round(found.high, 2)
        (0.95, 0.74, 0.99)
    """
    sides = [said[truth], ~said[~truth]]
    if not all(map(len, sides)):
        return Agreement(None, None, None, *map(len, sides))
    shares = [float(side.mean()) for side in sides]
    ends: list[Any] = [binomtest(int(side.sum()), len(side)).proportion_ci(method="wilson") for side in sides]
    below = float(np.hypot(*(share - end.low for share, end in zip(shares, ends, strict=True)))) / 2
    above = float(np.hypot(*(end.high - share for share, end in zip(shares, ends, strict=True)))) / 2
    middle = sum(shares) / 2
    return Agreement(middle, middle - below, middle + above, *map(len, sides))


def _line(slope: float, offset: float) -> Line:
    return Line(slope=float(f"{slope:.{DIGITS}g}"), offset=float(f"{offset:.{DIGITS}g}"))
