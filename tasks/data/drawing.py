"""Samples drawn by chance, the same every time: by a seeded hash of each name, and alike in every stratum.

The hash is of the name alone, so that neither the order of a table nor how it is cut into shards matters, and a file more or less
changes a sample by about as much.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

SEED = 0


def drawn(names: Sequence[str], strata: Sequence[str | None], n: int) -> list[int]:
    """Positions, ascending, of n names drawn by their hash: from each stratum its share (`shares`); all of them if n is enough.

    names and strata are of one length; None is a stratum like any other.
    """
    if n >= len(names):
        return list(range(len(names)))
    left = shares(Counter(strata), n)
    chosen = []
    for position in by_lot(names):
        if left[strata[position]]:
            left[strata[position]] -= 1
            chosen.append(position)
    return sorted(chosen)


def by_lot(names: Sequence[str]) -> list[int]:
    """All positions, in the order of the names' seeded hashes."""
    return sorted(range(len(names)), key=lambda position: (lot(names[position]), position))


def shares(sizes: Mapping[str | None, int], n: int) -> dict[str | None, int]:
    """How many of n each stratum gives: in proportion to its size, by the largest remainder, and at least one each if n allows.

    Equal remainders are settled by lot. n is at most the sum of the sizes.
    """
    total, least = sum(sizes.values()), int(n >= len(sizes))
    given = {stratum: max(least, n * size // total) for stratum, size in sizes.items()}

    lots = {stratum: lot(str(stratum)) for stratum in sizes}

    def short(stratum: str | None) -> tuple[int, bytes]:
        """How far a stratum is under its exact share, in units of 1 / total."""
        return n * sizes[stratum] - total * given[stratum], lots[stratum]

    for stratum in sorted(sizes, key=short, reverse=True)[: max(0, n - sum(given.values()))]:
        given[stratum] += 1
    for _ in range(sum(given.values()) - n):  # what the smallest were given for being there
        given[min((stratum for stratum in sizes if given[stratum] > least), key=short)] -= 1
    return given


def lot(name: str) -> bytes:
    """What a name draws."""
    return hashlib.sha256(f"{SEED}\0{name}".encode()).digest()[:8]
