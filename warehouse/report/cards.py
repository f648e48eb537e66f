"""Cards of what has no name: the images that carry a property or a place most and least, so that a person sees what is meant."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageOps

from warehouse.lens.fetch import Row

SIDE = 128  # pixels: at least, of an image with a frame around a place, so that the frame is thin; and at most, of any on a card


class Carrier(NamedTuple):
    """One image that carries it much or little: its thumbnail as a data URI (None where none is kept), and how much."""

    image_id: str
    uri: str | None
    value: float


class Card(NamedTuple):
    """A property or place that the classifier reacts to: its claims (rows of `findings`), its strongest and weakest carriers.

    The weakest carry it least: of a place, theirs speaks most against the class.
    """

    kind: str
    name: str
    claims: tuple[Row, ...]
    most: tuple[Carrier, ...]
    least: tuple[Carrier, ...]


def cards(carriers: Sequence[Row], claims: Sequence[Row], images: Sequence[Row]) -> list[Card]:
    """A card a property or place, from rows of EVIDENCE's `carriers`; images: rows with `image_id` and `png`."""
    bytes_of = {row["image_id"]: row["png"] for row in images}

    def side(rows: Sequence[Row], most: bool) -> tuple[Carrier, ...]:
        chosen = [row for row in rows if row["most"] == most]
        return tuple(
            Carrier(row["image_id"], thumbnail(bytes_of.get(row["image_id"]), row["place"], row["grid"]), row["value"])
            for row in chosen
        )

    found = []
    for (kind, name), group in groupby(carriers, key=lambda row: (row["kind"], row["name"])):
        rows = list(group)
        own = tuple(row for row in claims if (row["kind"], row["name"]) == (kind, name))
        found.append(Card(kind, name, own, side(rows, True), side(rows, False)))
    return found


def thumbnail(png: bytes | None, place: int | None, grid: int | None) -> str | None:
    """An image as a data URI, a large one made smaller, a place of it (cell of a grid, row by row) framed with half a cell
    around; None without bytes."""
    if png is None:
        return None
    image = Image.open(io.BytesIO(png)).convert("RGB")
    large = min(image.size) > SIDE
    if large:
        image = ImageOps.cover(image, (SIDE, SIDE))
    if place is not None and grid is not None:
        times = -(-SIDE // min(image.size))
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
        row, column = divmod(place, grid)
        left, right = _span(column, grid, image.width)
        top, bottom = _span(row, grid, image.height)
        draw = ImageDraw.Draw(image)
        draw.rectangle((left, top, right, bottom), outline="black", width=3)
        draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline="white", width=1)
    file = io.BytesIO()
    kind = "JPEG" if large else "PNG"  # seventy large photographs would be a page of megabytes
    image.save(file, kind, quality=90)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _span(index: int, grid: int, side: int) -> tuple[float, float]:
    """First and last pixel of a cell with half a cell around it."""
    return max(0.0, index - 0.5) * side / grid, min(grid, index + 1.5) * side / grid - 1
