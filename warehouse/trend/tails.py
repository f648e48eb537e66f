"""How far a mean may differ between two nights by chance: a permutation test's tails, bounded in closed form.

If nothing changed, an image that both nights audited could have had its two answers the other way round (its difference a random
sign), and the images that only tonight has could as well have been those that only the earlier nights have (a draw without
replacement). Under these exchanges alone, whatever the numbers' distribution, Chernoff's bound with the exact moment generating
functions holds: P(S >= s) <= exp(K(l) - l s) for every l > 0, where

    K(l) = sum_i log cosh(l d_i / n)  +  m log mean_j exp(l (v_j - mean v) / n)

sums over the n - m images in common, with differences d, and the m new ones among the pooled values v. The second term is that of
a draw with replacement, which bounds one without (Hoeffding 1963, theorem 4). No normal approximation is involved, which an alarm
could not bear: at the levels that a month of nights needs, the normal tail of a skewed mean, such as an accuracy near 1, is wrong
by orders of magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Floats = NDArray[np.float64]
STEEPEST = 500.0  # of the tilt, in units of 1 / the largest step: beyond, the most extreme exchange is all that is left


@dataclass(frozen=True)
class Exchange:
    """What may be exchanged: differences of images in common (C,), the values of new images (M,), and those of earlier ones that
    tonight does not have (R,)."""

    differences: Floats
    new: Floats
    earlier: Floats

    @property
    def n(self) -> int:
        """Images of tonight that count."""
        return len(self.differences) + len(self.new)

    @property
    def change(self) -> float:
        """Tonight's mean less the earlier one: of common images their own earlier values, of new ones the earlier images'."""
        new = len(self.new) * (self.new.mean() - self.earlier.mean()) if len(self.new) else 0.0
        return float((self.differences.sum() + new) / self.n)


def critical(exchange: Exchange, level: float) -> tuple[float, float]:
    """The changes (below, above 0) beyond which P(change) <= level / 2 on either side, if nothing changed: (-fall, rise).

    Where so few images cannot show any change at this level, the largest one that exchanges can make, which is never exceeded.

    Examples:
        >>> few, many = (Exchange(np.tile([0.1, -0.1], n), np.zeros(0), np.zeros(0)) for n in (4, 50))
        >>> critical(few, 0.001)
        (-0.1, 0.1)
        >>> [round(x, 3) for x in critical(many, 0.001)]
        [-0.038, 0.038]
    """
    return -_critical(_mirrored(exchange), level), _critical(exchange, level)


def _mirrored(exchange: Exchange) -> Exchange:
    return Exchange(-exchange.differences, -exchange.new, -exchange.earlier)


def _critical(exchange: Exchange, level: float) -> float:
    """The smallest rise s with sup_l (l s - K(l)) >= log(2 / level). l K'(l) - K(l) rises with l, so that l is found first."""
    needed = float(np.log(2 / level))
    pooled = np.concatenate([exchange.new, exchange.earlier]) if len(exchange.new) else np.zeros(1)
    # A rise of the new images' mean is so much of their distance from the mean of the pool.
    share = len(exchange.earlier) / len(pooled) if len(exchange.new) else 1.0
    steps, jumps = exchange.differences / exchange.n, (pooled - pooled.mean()) / (exchange.n * share)
    largest = max(np.abs(steps).max(initial=0.0), np.abs(jumps).max())
    if largest == 0:  # nothing that could be exchanged differs
        return 0.0

    def of_tilt(tilt: float) -> tuple[float, float]:
        """K'(l), and l K'(l) - K(l)."""
        top = tilt * jumps.max()
        weights = np.exp(tilt * jumps - top)
        log_mean = float(top + np.log(weights.mean()))
        size = np.abs(tilt * steps)
        log_cosh = size + np.log1p(np.exp(-2 * size)) - np.log(2)
        slope = float(steps @ np.tanh(tilt * steps) + len(exchange.new) * (weights @ jumps) / weights.sum())
        return slope, tilt * slope - float(log_cosh.sum()) - len(exchange.new) * log_mean

    most, farthest = STEEPEST / largest, float(np.abs(steps).sum() + np.sort(jumps)[::-1][: len(exchange.new)].sum())
    if of_tilt(most)[1] < needed:
        return farthest
    return min(farthest, of_tilt(brentq(lambda tilt: of_tilt(tilt)[1] - needed, 0.0, most, rtol=1e-9))[0])
