"""Every claim on one chart: attributes, properties and places of the image, in points of the score, each with a plain status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from warehouse.lens.fetch import Row
from warehouse.report.charts import Axis, axis_over
from warehouse.report.formatting import count, whole_between, whole_points
from warehouse.report.verdict import OPEN, OWN

FIRST = 10  # rows that show at once; the others open below
STATUS = {  # verdict -> plain words, and the colour of the pill
    "confirmed": ("Relies on it", "bad"),
    "suspected": ("May rely on it", "unsure"),
    "fragile": ("Reacts, but these images hardly vary in it", "unsure"),
    "inconclusive": ("Undecided", "unsure"),
    "not tested": ("Not edited, so not tested", "unsure"),
    "named": ("Explained by what was named", "quiet"),
    "clear": ("No sign of it", "good"),
}


@dataclass(frozen=True)
class ClaimRow:
    """One line of the chart. Values are shares of a probability: 0.37 is 37 points; None where it alone was never changed."""

    name: str
    kind: str
    score: str  # the class whose score moves
    value: float | None
    low: float | None
    high: float | None
    n: int
    status: str
    tone: str
    why: str

    @property
    def text(self) -> str:
        """+37, or – where nothing was changed alone."""
        return whole_points(self.value)

    @property
    def between(self) -> str:
        """28–46, or nothing where there is no interval."""
        return "" if self.low is None or self.high is None else whole_between(self.low, self.high)


@dataclass(frozen=True)
class ClaimsChart:
    """The lines: what was confirmed, what is open, and the others; of each the strongest first. And the axis that they share."""

    rows: tuple[ClaimRow, ...]
    axis: Axis
    scores: tuple[str, ...]  # the classes whose scores are on it

    @property
    def first(self) -> tuple[ClaimRow, ...]:
        """What shows at once: what is not settled, and then as much of what is clear as there is room for."""
        return self.rows[:FIRST]

    @property
    def others(self) -> tuple[ClaimRow, ...]:
        return self.rows[FIRST:]


def claims_chart(claims: Sequence[Row], margin: float, images: int) -> ClaimsChart:
    """From rows of `findings`, named for people. images: how many were audited; margin: an effect inside +- this is too small."""
    ordered = sorted(claims, key=lambda row: (_tier(row["verdict"]), -abs(row["intervention"] or 0.0), row["rank"]))
    rows = tuple(_row(row, images) for row in ordered)
    ends = [end for row in rows for end in (row.value, row.low, row.high) if end is not None]
    return ClaimsChart(rows, axis_over([-margin, margin, *ends]), tuple(dict.fromkeys(row.score for row in rows)))


def _tier(verdict: str) -> int:
    return 0 if verdict == "confirmed" else 1 if verdict in OPEN else 2


def _row(row: Row, images: int) -> ClaimRow:
    status, tone = STATUS[row["verdict"]]
    if row["verdict"] == "inconclusive" and row["images_needed"]:
        status = f"Too few images: {count(images)}; about {count(row['images_needed'])} needed"
    elif row["verdict"] == "clear" and row["intervention"] is None:
        status = "No sign of it, by explanations alone"
    elif row["verdict"] == "inconclusive" and row["low"] is not None:
        status = f"Undecided with {count(row['n'])} images"
    elif row["verdict"] == "named" and "; " in row["why"] and row["why"].endswith(" there"):
        status = f"Explained by {row['why'].partition('; ')[2].removesuffix(' there')}"
    score = "their own class" if row["class"] == OWN else row["class"]
    name = f"{row['name']} (“{row['given_name']}”)" if row["given_name"] else row["name"]
    parts = (row["intervention"], row["low"], row["high"], row["n"])
    return ClaimRow(name, row["kind"], score, *parts, status, tone, row["why"])
