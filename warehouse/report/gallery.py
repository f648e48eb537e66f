"""The report's examples: which explanations, what is said of each, and its images as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from warehouse.lens.fetch import Row
from warehouse.report.names import Names

AMPLIFIED = 3  # differences are shown this many times stronger
THUMBNAIL = 192  # the longest side of a thumbnail, in pixels
SMALL = 96  # images up to this side are kept without loss: they are tiny, and every pixel is visible

NAMES = Names()  # without labels of one's own
ORANGE = (225, 85, 0)

Pixels = NDArray[np.uint8]  # (H, W, 3)

RULES = {
    "random": ("Random picks", "Chosen at random, reproducibly: this is what an ordinary explanation looks like."),
    "best": ("Best", "Flipped, not contradicted by the judge, and with the smallest change (L1) of all."),
    "failed": ("Failed", "The classifier did not change its answer, or the judge disagrees; chosen at random, reproducibly."),
}


@dataclass(frozen=True)
class Frames:
    """One example's images as WebP data URIs; None where the warehouse holds no image."""

    x: str | None
    saliency: str | None
    x_cf: str | None
    mask: str | None
    difference: str | None


@dataclass(frozen=True)
class Change:
    """An attribute whose oracle probability crossed one half."""

    attribute: str
    before: float
    after: float


@dataclass(frozen=True)
class Example:
    """One explanation: `row` is its row of the picks, `file` its path in the image folder."""

    row: Row
    file: str
    frames: Frames
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Group:
    kind: str
    title: str
    rule: str
    examples: tuple[Example, ...]


def gallery(picks: Sequence[Row], shown: Sequence[Row], names: Names = NAMES) -> list[Group]:
    """The picks by kind; `shown` has their images and oracle probabilities, by names as in the data (`queries.image_rows`)."""
    seen = {(row["image_id"], row["seed"]): row for row in shown}

    def example(row: Row) -> Example:
        found = seen[row["image_id"], row["seed"]]
        images = frames(found["png"], found["png_cf"], found["mask_png"], found["map_png"])
        moved = tuple(replace(change, attribute=names(change.attribute)) for change in changes(found))
        return Example(row, row["path"] or row["image_id"][:12], images, moved)

    def group(kind: str, title: str, rule: str) -> Group:
        return Group(kind, title, rule, tuple(example(row) for row in picks if row["pick"] == kind))

    return [group(kind, title, rule) for kind, (title, rule) in RULES.items()]


def changes(attributes: Row) -> tuple[Change, ...]:
    """The attributes on another side of one half after than before, largest change first (a half itself is below)."""
    names = [column[2:] for column in attributes if column.startswith("d_") and attributes[column] is not None]
    moved = [Change(name, attributes[f"p_{name}"], attributes[f"q_{name}"]) for name in names]
    crossed = [change for change in moved if (change.before > 0.5) != (change.after > 0.5)]
    return tuple(sorted(crossed, key=lambda change: -abs(change.after - change.before)))


def frames(png: bytes | None, png_cf: bytes | None, mask_png: bytes | None, map_png: bytes | None) -> Frames:
    """Thumbnails from the PNG bytes in the facts; difference and saliency need two images of one size."""
    x, x_cf, mask, found = (pixels_of(data) if data else None for data in (png, png_cf, mask_png, map_png))
    changed = None if x is None or x_cf is None or x.shape != x_cf.shape else difference(x, x_cf)
    seen = None if x is None or found is None or x.shape != found.shape else salient(x, found)
    allowed = mask if x is None or mask is None or x.shape != mask.shape else masked(x, mask)
    return Frames(*(None if pixels is None else data_uri(pixels) for pixels in (x, seen, x_cf, allowed, changed)))


def picture(png: bytes | None) -> str | None:
    """A thumbnail as a data URI; None without bytes."""
    return None if png is None else data_uri(pixels_of(png))


def salient(x: Pixels, found: Pixels) -> Pixels:
    """The image in pale grey, and over it in orange what the map finds."""
    ground = pale(x)
    return (ground + (np.array(ORANGE) - ground) * (found[..., :1] / 255)).astype(np.uint8)


def masked(x: Pixels, mask: Pixels) -> Pixels:
    """The image as it is where the mask is white, in orange along its border there, and in pale grey where it is black."""
    inside = mask[..., :1] > 127
    padded = np.pad(inside[..., 0], 1, mode="edge")
    core = inside[..., 0] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    shown = np.where(inside, x, pale(x)).astype(np.uint8)
    shown[inside[..., 0] & ~core] = ORANGE
    return shown


def pale(x: NDArray[Any]) -> NDArray[np.float64]:
    """The image (H, W, 3) in pale grey, (H, W, 1), from 140 to 255: a ground for colours."""
    return 140 + x.mean(axis=2, keepdims=True) * 0.45


def difference(x: Pixels, x_cf: Pixels) -> Pixels:
    """x_cf - x, amplified, around mid-grey: grey is unchanged, brighter is lighter in the counterfactual."""
    signed = x_cf.astype(np.int16) - x.astype(np.int16)
    return np.clip(128 + AMPLIFIED * signed, 0, 255).astype(np.uint8)


def pixels_of(png: bytes) -> Pixels:
    """An image from its bytes, as RGB."""
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def data_uri(pixels: Pixels) -> str:
    """An image as a thumbnail, WebP."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    lossless = max(pixels.shape[:2]) <= SMALL
    image.save(buffer, "WEBP", quality=20 if lossless else 82, method=2, lossless=lossless)  # lossless: quality is effort
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
