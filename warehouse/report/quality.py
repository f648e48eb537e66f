"""Data quality as the report shows it: the checks of the view `quality`, the images flagged, what to say of the worst."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
from PIL import Image

from warehouse.lens.fetch import Row, fetch
from warehouse.report.formatting import percent

SHOWN = 4  # images of each check
SIDE = 64  # of a thumbnail, pixels
MOST_BYTES = 60_000  # of all thumbnails together, as they stand in the page

# What follows from it, where it is severe.
FOLLOWS = {
    "leak between splits": "accuracy and every rate below may be better than they are on images that nobody has seen",
    "duplicates disagree": "one of the two labels is wrong, and accuracy counts it",
    "exact duplicate": "the data hold fewer images than files",
    "near duplicate": "intervals are narrower than they should be: copies count as if they were independent",
    "label issue": "where the classifier is right, accuracy is better than it seems; where it is wrong, the labels stand",
    "low information": "what the classifier says of them means little",
    "dark": "what the classifier says of them may say more about the light",
    "bright": "what the classifier says of them may say more about the light",
    "blurred": "what the classifier says of them may say more about the camera",
    "odd size": "they may come from another source",
    "odd shape": "only their central part is audited",
    "rejected": "the audit says nothing about such inputs",
    "class balance": "little is known about the rarest class, and accuracy is that of the others",
}


@dataclass(frozen=True)
class Flagged:
    """A flagged image: its row of `quality_images`, its thumbnail and that of the file that it repeats, as data URIs or None."""

    row: Row
    uri: str | None
    other_uri: str | None


@dataclass(frozen=True)
class Check:
    """A row of `quality`, and the first images that it flags."""

    row: Row
    shown: tuple[Flagged, ...]


def checks(rows: Sequence[Row], flagged: Sequence[Row], images: Mapping[str, bytes]) -> list[Check]:
    """The checks with their first images. images: PNG bytes by path, of those that may be shown.

    Thumbnails end where they come to MOST_BYTES, so that a page stays small.
    """
    left = [MOST_BYTES]

    def seen(path: str | None) -> str | None:
        if path is None or path not in images or left[0] <= 0:
            return None
        uri = _thumbnail(images[path])
        left[0] -= len(uri)
        return uri if left[0] >= 0 else None

    def of(issue: str) -> tuple[Flagged, ...]:
        rows = [row for row in flagged if row["issue"] == issue]
        once = {frozenset((row["path"], row["other"])): row for row in reversed(rows)}  # of a pair one side
        first = [row for row in rows if once[frozenset((row["path"], row["other"]))] is row][:SHOWN]
        return tuple(Flagged(row, seen(row["path"]), seen(row["other"])) for row in first)

    return [Check(row, of(row["issue"]) if row["flagged"] else ()) for row in rows]


def warnings(rows: Sequence[Row]) -> list[str]:
    """A sentence for the summary for each check that is severe: what was found, and what follows. None: nothing is severe."""
    return [_sentence(row) for row in rows if row["severity"] == "severe"]


def _sentence(row: Row) -> str:
    found = {
        "rejected": f"{row['flagged']:,} of {row['n']:,} inputs ({percent(row['share'])}) were rejected: {row['about']}",
        "class balance": f"“{row['about']}” has {row['flagged']:,} of {row['n']:,} labelled images",
    }
    counted = f"{row['issue']}: {row['flagged']:,} of {row['n']:,} images ({percent(row['share'])})"
    return f"Data quality, {found.get(row['issue'], counted)}; {FOLLOWS[row['issue']]}."


def images_by_path(lens: duckdb.DuckDBPyConnection, run_id: str, flagged: Sequence[Row]) -> dict[str, bytes]:
    """PNG bytes of flagged images and of those that they repeat; none where the configuration says `thumbnails: false`."""
    paths = sorted({path for row in flagged for path in (row["path"], row["other"]) if path is not None})
    if not paths:
        return {}
    named = {f"path_{i}": path for i, path in enumerate(paths)}
    sql = f"""
        select path, png
        from images join (select run_id, coalesce((config ->> 'thumbnails')::bool, true) as shown from runs) using (run_id)
        where run_id = $run and shown and png is not null and path in ({", ".join(f"${name}" for name in named)})
    """
    return {row["path"]: row["png"] for row in fetch(lens, sql, run=run_id, **named)}


def _thumbnail(png: bytes) -> str:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=70, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
