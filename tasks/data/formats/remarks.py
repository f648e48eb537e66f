"""What an import has to say besides its rows: which files became none, and how the others were read."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

SHOWN = 3  # names of a reason


class LeftOut(NamedTuple):
    """Files that became no row for one reason."""

    files: int
    reason: str
    first: list[str]

    def __str__(self) -> str:
        return f"{self.files:,} {self.reason}: {', '.join(self.first)}{', …' if self.files > SHOWN else ''}"


class Remarks:
    """`say` keeps a sentence once; `leave_out` counts a file by the reason why it is no row, and keeps the first few names."""

    def __init__(self) -> None:
        self.sentences: dict[str, None] = {}
        self.counts: Counter[str] = Counter()
        self.first: dict[str, list[str]] = {}

    def say(self, sentence: str) -> None:
        self.sentences[sentence] = None

    def leave_out(self, name: str, reason: str) -> None:
        self.counts[reason] += 1
        if self.counts[reason] <= SHOWN:
            self.first.setdefault(reason, []).append(name)

    def left_out(self) -> list[LeftOut]:
        """The reasons, the most frequent first."""
        return [LeftOut(count, reason, self.first[reason]) for reason, count in self.counts.most_common()]


def listed(names: list[str]) -> str:
    """The first few names."""
    return ", ".join(map(repr, names[:6])) + (", …" if len(names) > 6 else "")
