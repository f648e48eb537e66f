"""Cards of properties: which images carry the property most and which least, so that a person can see what is meant."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from warehouse.lens.fetch import Row
from warehouse.report.gallery import frames


class Carrier(NamedTuple):
    """One image that carries a property much or little: its thumbnail as a data URI (None where none is kept), the value."""

    uri: str | None
    value: float


class Card(NamedTuple):
    """A property that the classifier reacts to: its claims (rows of `findings`), its strongest and its weakest carriers."""

    name: str
    claims: tuple[Row, ...]
    most: tuple[Carrier, ...]
    least: tuple[Carrier, ...]


def cards(carriers: Sequence[Row], claims: Sequence[Row], images: Sequence[Row]) -> list[Card]:
    """A card a property, from rows of EVIDENCE's `carriers`; images: rows with `image_id` and `png`."""
    shown = {row["image_id"]: frames(row["png"], None, None, None).x for row in images}

    def side(rows: Sequence[Row], most: bool) -> tuple[Carrier, ...]:
        return tuple(Carrier(shown.get(row["image_id"]), row["value"]) for row in rows if row["most"] == most)

    found = []
    for name, rows in ((name, list(rows)) for name, rows in groupby(carriers, key=lambda row: row["property"])):
        own = tuple(row for row in claims if (row["kind"], row["name"]) == ("property", name))
        found.append(Card(name, own, side(rows, True), side(rows, False)))
    return found
