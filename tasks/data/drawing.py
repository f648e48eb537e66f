"""Samples drawn by chance, the same every time: by a seeded hash of each name, and alike in every stratum.

The hash is of the name alone, so that neither the order of a table nor how it is cut into shards matters, and a file more or less
changes a sample by about as much.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

SEED = 0


def drawn(names: Sequence[str], strata: Sequence[str | None], n: int, seed: int | str = SEED) -> list[int]:
    """Positions, ascending, of n names drawn by their hash: from each stratum its share (`shares`); all of them if n is enough.

    names and strata are of one length; None is a stratum like any other. Another seed, such as a date, is another draw.
    """
    if n >= len(names):
        return list(range(len(names)))
    left = shares(Counter(strata), n)
    chosen = []
    for position in by_lot(names, seed):
        if left[strata[position]]:
            left[strata[position]] -= 1
            chosen.append(position)
    return sorted(chosen)


def drawn_for_night(names: Sequence[str], strata: Sequence[str | None], n: int, kept: float, night: str) -> list[int]:
    """Positions, ascending, of n names, of which a share `kept` is drawn alike every night and the others for this night alone.

    Sampling with partial replacement (Patterson 1950): the part that stays shows a change of the classifier on the same images,
    the new part what the images have become.
    """
    stay = drawn(names, strata, round(kept * n))
    others = sorted({*range(len(names))} - {*stay})
    new = drawn([names[i] for i in others], [strata[i] for i in others], n - len(stay), night) if others else []
    return sorted([*stay, *(others[i] for i in new)])


def by_lot(names: Sequence[str], seed: int | str = SEED) -> list[int]:
    """All positions, in the order of the names' seeded hashes."""
    lots = np.fromiter((int.from_bytes(lot(name, seed)) for name in names), np.uint64, len(names))
    order: list[int] = lots.argsort(kind="stable").tolist()
    return order


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


def lot(name: str, seed: int | str = SEED) -> bytes:
    """What a name draws."""
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8]
