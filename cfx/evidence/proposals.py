"""Which more names would explain more of a classifier's answers: candidates ranked by the explained share with them, greedily."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from cfx.errors import UserError
from cfx.evidence.explained import BOOTSTRAPS, FEW, log_odds, out_of_fold, r2_of
from cfx.evidence.paired import Floats

MOST = 5  # names that are added one after another
WORTH = 0.01  # of R^2: a name that adds less ends it


class Proposal(NamedTuple):
    """One name: the explained share with it, and what it adds to those before it, with an interval for the best of all that were
    tried (Bonferroni)."""

    name: str
    share: float
    gain: float
    low: float
    high: float


class Proposals(NamedTuple):
    """before: the share without any. alone: with each by itself, the best first. together: added one after another."""

    before: float
    alone: tuple[Proposal, ...]
    together: tuple[Proposal, ...]


def propose(p: Floats, named: Floats, candidates: Mapping[str, Floats], most: int = MOST) -> Proposals:
    """Candidates (N,), by name, for the answers P(class) (N,) that the columns named (N, K >= 0) explain in part.

    Shares are out-of-fold R^2 of the log-odds, as in `explained`; K = 0 explains nothing. Greedy: each step adds the candidate
    with the highest share, until none adds WORTH, or `most` are added. Raises UserError with fewer than FEW images, and where
    all answers are the same.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> known, cause, other = (rng.integers(0, 2, 96).astype(float) for _ in range(3))
        >>> p = 1 / (1 + np.exp(-(2 * known + 3 * cause - 2.5)))
        >>> found = propose(p, known[:, None], {"cause": cause, "other": other})
        >>> [one.name for one in found.together], found.alone[0].name, found.together[0].share > 0.99
        (['cause'], 'cause', True)
    """
    y = log_odds(p)
    if len(y) < FEW:
        raise UserError(f"{len(y)} images; the explained share needs {FEW} or more")
    if np.ptp(y) < 1e-6:
        raise UserError("the classifier gives the same answer to every image: there is nothing to explain")
    useful = {name: column for name, column in candidates.items() if np.ptp(column) > 0}
    draws = np.random.default_rng(0).integers(0, len(y), (BOOTSTRAPS, len(y)))
    fitted = out_of_fold(named, y)[0] if named.shape[1] else np.full(len(y), y.mean())
    tail = 0.025 / max(1, len(useful))

    def added(columns: Floats, before: Floats, left: Mapping[str, Floats]) -> Iterator[tuple[Proposal, Floats]]:
        for name, column in left.items():
            after = out_of_fold(np.column_stack([columns, column]), y)[0]
            gains = r2_of(y, after, draws) - r2_of(y, before, draws)
            share, then = _share(y, after), _share(y, before)
            low, high = np.quantile(gains, (tail, 1 - tail))
            yield Proposal(name, share, share - then, float(low), float(high)), after

    first = sorted(added(named, fitted, useful), key=lambda found: -found[0].share)
    alone, columns, before, chosen = [one for one, _ in first], named, fitted, list[Proposal]()
    step = first
    while step and step[0][0].gain >= WORTH and len(chosen) < most:
        best, before = step[0]
        chosen.append(best)
        columns = np.column_stack([columns, useful.pop(best.name)])
        step = sorted(added(columns, before, useful), key=lambda found: -found[0].share) if len(chosen) < most else []
    return Proposals(_share(y, fitted), tuple(alone), tuple(chosen))


def _share(y: Floats, predicted: Floats) -> float:
    return float(r2_of(y, predicted, np.arange(len(y))[None])[0])
