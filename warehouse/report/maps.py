"""Where the answer comes from, as a map over the mean image."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from PIL import Image

from warehouse.lens.fetch import Row


class Cell(NamedTuple):
    """One place of a map: where it is, in cells, and how strong it is, 0 to 1 of the map's largest effect."""

    row: int
    column: int
    strength: float
    effect: float
    unnamed: bool
    attributes: str


class Map(NamedTuple):
    """The places of one class, over a grid x grid image."""

    name: str
    grid: int
    framing: float
    largest: float
    cells: tuple[Cell, ...]
    zones: tuple[Row, ...]  # rows of the view `findings` of this class that are places


def maps_of(places: Sequence[Row], claims: Sequence[Row]) -> list[Map]:
    """A map a class, from rows of `place_claims` in order of class."""
    found = []
    for name, rows in ((name, list(rows)) for name, rows in groupby(places, key=lambda row: row["class"])):
        largest = max(max(row["effect"] for row in rows), 1e-9)
        cells = tuple(
            Cell(
                row["place"] // row["grid"],
                row["place"] % row["grid"],
                min(1.0, max(0.0, row["effect"] / largest)),
                row["effect"],
                row["unnamed"],
                ", ".join(row["attributes"]),
            )
            for row in rows
        )
        zones = tuple(claim for claim in claims if claim["kind"] == "place" and claim["class"] == name)
        found.append(Map(name, rows[0]["grid"], rows[0]["framing"], largest, cells, zones))
    return found


def mean_image(shown: Sequence[Row]) -> str | None:
    """The mean of the images (rows with `png`) that are shown, as a data URI; None without any."""
    images = [row["png"] for row in shown if row.get("png")]
    if not images:
        return None
    pixels = [np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.float32) for png in images]
    alike = [image for image in pixels if image.shape == pixels[0].shape]
    file = io.BytesIO()
    Image.fromarray(np.mean(alike, axis=0).round().astype(np.uint8)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
