"""Portraits: parametric faces whose causal truth is known, the project's reference benchmark.

A portrait is a `Portrait`: ten binary attributes plus continuous nuisance (pose, skin, colours, shapes). `render` draws it with
numpy alone, antialiased by analytic signed distances, so the same portrait with one attribute toggled differs in that attribute
and in nothing else. That makes the true causal effect of an attribute on any classifier a number that can be computed:
render, toggle, render again, query the classifier twice.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cfx.errors import UserError
from cfx.random import derived_seed

ATTRIBUTES = (
    "smile",
    "glasses",
    "hat",
    "beard",
    "dark_hair",
    "long_hair",
    "rosy_cheeks",
    "earrings",
    "raised_brows",
    "warm_background",
)

# What a prompt calls them, each one token of the text-to-image model.
WORDS = MappingProxyType(
    {
        "smile": "smile",
        "glasses": "glasses",
        "hat": "hat",
        "beard": "beard",
        "dark_hair": "brunette",
        "long_hair": "longhaired",
        "rosy_cheeks": "rosy",
        "earrings": "jewels",
        "raised_brows": "surprised",
        "warm_background": "warm",
    }
)
NOUNS = ("portrait", "picture", "image", "photo", "photograph", "snapshot")

Plane = NDArray[np.float32]  # (size, size)


@dataclass(frozen=True)
class Portrait:
    """One face. Lengths are fractions of the image's side, angles in radians, colours RGB in [0, 1]."""

    attributes: tuple[bool, ...]  # in the order of ATTRIBUTES
    centre: tuple[float, float]
    tilt: float
    width: float
    height: float
    skin: tuple[float, float, float]
    hair_shade: tuple[float, float, float]
    hair_volume: float
    background_shade: tuple[float, float, float]
    eye_colour: tuple[float, float, float]
    eye_distance: float
    eye_size: float
    nose_length: float
    mouth_width: float
    lip_colour: tuple[float, float, float]
    clothes: tuple[float, float, float]
    hat_colour: tuple[float, float, float]
    frame_colour: tuple[float, float, float]
    light: float

    def toggled(self, attribute: str) -> Portrait:
        """The same portrait with that one attribute flipped. Raises UserError for an attribute Portraits does not have."""
        if attribute not in ATTRIBUTES:
            raise UserError(f"Portraits has no attribute {attribute!r}; it has {', '.join(ATTRIBUTES)}")
        position = ATTRIBUTES.index(attribute)
        flipped = tuple(not on if i == position else on for i, on in enumerate(self.attributes))
        return replace(self, attributes=flipped)

    def has(self, attribute: str) -> bool:
        """Whether it has that one of ATTRIBUTES."""
        return self.attributes[ATTRIBUTES.index(attribute)]


def sample(rng: np.random.Generator, attributes: NDArray[np.bool_] | None = None) -> Portrait:
    """A random portrait; `attributes`: (10,) booleans to use instead of fair coins."""
    if attributes is None:
        attributes = rng.random(len(ATTRIBUTES)) < 0.5

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    def colour(low: tuple[float, float, float], high: tuple[float, float, float]) -> tuple[float, float, float]:
        r, g, b = rng.uniform(low, high)
        return float(r), float(g), float(b)

    depth = rng.uniform(0.0, 1.0)  # skin runs from light to dark along one line, with a little jitter
    r, g, b = (1 - depth) * np.array([0.96, 0.82, 0.72]) + depth * np.array([0.52, 0.35, 0.26]) + rng.uniform(-0.03, 0.03, 3)
    return Portrait(
        attributes=tuple(bool(on) for on in attributes),
        centre=(between(0.46, 0.54), between(0.51, 0.56)),
        tilt=between(-0.12, 0.12),
        width=between(0.205, 0.245),
        height=between(0.275, 0.315),
        skin=(float(r), float(g), float(b)),
        hair_shade=colour((-0.06, -0.06, -0.06), (0.06, 0.06, 0.06)),
        hair_volume=between(0.03, 0.065),
        background_shade=colour((-0.08, -0.08, -0.08), (0.08, 0.08, 0.08)),
        eye_colour=colour((0.10, 0.20, 0.20), (0.40, 0.45, 0.60)),
        eye_distance=between(0.088, 0.108),
        eye_size=between(0.028, 0.036),
        nose_length=between(0.06, 0.09),
        mouth_width=between(0.082, 0.105),
        lip_colour=colour((0.62, 0.22, 0.24), (0.82, 0.38, 0.40)),
        clothes=colour((0.15, 0.15, 0.20), (0.75, 0.70, 0.75)),
        hat_colour=colour((0.10, 0.10, 0.20), (0.75, 0.60, 0.70)),
        frame_colour=colour((0.03, 0.03, 0.03), (0.18, 0.14, 0.14)),
        light=between(-0.10, 0.10),
    )


class _Canvas:
    """An image in the making: coordinates in the face's own frame, and `paint` for an antialiased shape."""

    def __init__(self, portrait: Portrait, size: int) -> None:
        line = (np.arange(size, dtype=np.float32) + 0.5) / size
        v, u = np.meshgrid(line, line, indexing="ij")
        du, dv = u - portrait.centre[0], v - portrait.centre[1]
        cos, sin = np.float32(np.cos(portrait.tilt)), np.float32(np.sin(portrait.tilt))
        self.u, self.v = u, v
        self.x, self.y = cos * du + sin * dv, cos * dv - sin * du
        self.size = size
        self.rgb = np.zeros((size, size, 3), np.float32)

    def paint(self, distance: Plane, colour: tuple[float, float, float] | NDArray[np.float32], opacity: float = 1.0) -> None:
        """Blend `colour` where the signed `distance` (in sides, negative inside) is below 0, over one pixel's width."""
        cover = np.clip(0.5 - distance * self.size, 0, 1) * np.float32(opacity)
        self.rgb += cover[..., None] * (np.asarray(colour, np.float32) - self.rgb)

    def blush(self, x: float, y: float, radius: float, colour: tuple[float, float, float], opacity: float) -> None:
        """A soft-edged spot."""
        cover = np.float32(opacity) * np.exp(-((self.x - x) ** 2 + (self.y - y) ** 2) / np.float32(radius**2))
        self.rgb += cover[..., None] * (np.asarray(colour, np.float32) - self.rgb)

    def ellipse(self, x: float, y: float, width: float, height: float) -> Plane:
        """First-order distance to an axis-aligned ellipse of the given half-axes in the face's frame."""
        px, py = (self.x - x) / np.float32(width), (self.y - y) / np.float32(height)
        level = np.sqrt(px**2 + py**2) + np.float32(1e-6)
        slope = np.sqrt((px / np.float32(width)) ** 2 + (py / np.float32(height)) ** 2) / level
        return ((level - 1) / np.maximum(slope, np.float32(1e-6))).astype(np.float32)

    def box(self, x: float, y: float, width: float, height: float, radius: float = 0.0) -> Plane:
        """Distance to a rectangle with rounded corners; `width` and `height` are half-sides."""
        dx = np.abs(self.x - x) - np.float32(width - radius)
        dy = np.abs(self.y - y) - np.float32(height - radius)
        outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
        return (outside + np.minimum(np.maximum(dx, dy), 0) - np.float32(radius)).astype(np.float32)

    def stroke(self, x: float, y: float, half_width: float, sag: float, thickness: float) -> Plane:
        """Distance to a parabola's arc through (x, y): its ends lie `sag` above its middle (y points down)."""
        t = (self.x - x) / np.float32(half_width)
        clipped = np.clip(t, -1, 1)
        curve = np.float32(y) - np.float32(sag) * clipped**2
        slope = -2 * np.float32(sag) * clipped / np.float32(half_width)
        along = np.abs(self.y - curve) / np.sqrt(1 + slope**2)
        beyond = np.maximum(np.abs(t) - 1, 0) * np.float32(half_width)
        return (np.hypot(along, beyond) - np.float32(thickness)).astype(np.float32)


def _scaled(colour: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def render(portrait: Portrait, size: int = 64) -> NDArray[np.uint8]:
    """Draw a portrait: (size, size, 3) uint8 RGB. Deterministic; back to front, each attribute in one place.

    Examples:
        >>> label, portrait = next(draw(1, seed=0))
        >>> image = render(portrait)
        >>> image.shape, image.dtype
        ((64, 64, 3), dtype('uint8'))
        >>> int((image != render(portrait.toggled("glasses"))).any(2).sum())  # pixels that the glasses take
        230
    """
    p, c = portrait, _Canvas(portrait, size)
    w, h = p.width, p.height

    warm = np.array([0.88, 0.62, 0.42]) if p.has("warm_background") else np.array([0.48, 0.63, 0.80])
    top_to_bottom = (c.v - 0.5)[..., None] * np.float32(0.16)
    c.rgb += (warm + np.array(p.background_shade)).astype(np.float32) - top_to_bottom

    base = np.array([0.17, 0.12, 0.09]) if p.has("dark_hair") else np.array([0.82, 0.64, 0.33])
    red, green, blue = base + np.array(p.hair_shade)
    hair = (float(red), float(green), float(blue))
    volume = p.hair_volume
    if p.has("long_hair"):
        c.paint(c.box(0, 0.14, w + volume + 0.015, 0.34, 0.10), _scaled(hair, 0.88))
    c.paint(c.ellipse(0, -0.05, w + volume, h + volume * 0.8), hair)

    c.paint(c.box(0, h + 0.03, 0.085, 0.14, 0.03), _scaled(p.skin, 0.84))
    c.paint(c.ellipse(0, h + 0.27, 0.36, 0.19), p.clothes)
    for side in (-1, 1):
        c.paint(c.ellipse(side * w, 0.015, 0.032, 0.055), _scaled(p.skin, 0.90))
    c.paint(c.ellipse(0, 0, w, h), p.skin)
    c.paint(np.maximum(c.ellipse(0, -0.01, w * 1.04, h * 1.02), c.y + np.float32(h * 0.56)), hair)

    if p.has("rosy_cheeks"):
        for side in (-1, 1):
            c.blush(side * w * 0.60, 0.066, 0.050, (0.93, 0.28, 0.30), 0.70)
    if p.has("beard"):
        below = np.maximum(c.ellipse(0, 0, w * 1.01, h * 1.03), 0.118 - c.y - np.float32(0.08) * np.abs(c.x))
        c.paint(below, _scaled(hair, 0.80), 0.92)

    brow = -0.128 if p.has("raised_brows") else -0.080
    arch = 0.034 if p.has("raised_brows") else 0.004
    for side in (-1, 1):
        x = side * p.eye_distance
        c.paint(c.ellipse(x, -0.03, p.eye_size * 1.35, p.eye_size * 0.95), (0.97, 0.97, 0.95))
        c.paint(c.ellipse(x, -0.03, p.eye_size * 0.78, p.eye_size * 0.78), p.eye_colour)
        c.paint(c.ellipse(x, -0.03, p.eye_size * 0.38, p.eye_size * 0.38), (0.04, 0.04, 0.05))
        c.paint(c.stroke(x, brow, 0.052, -arch, 0.010), _scaled(hair, 0.55))

    c.paint(c.stroke(0, 0.015 + p.nose_length, 0.026, 0.012, 0.007), _scaled(p.skin, 0.72))
    mouth = 0.165
    if p.has("smile"):
        lower = c.stroke(0, mouth + 0.028, p.mouth_width, 0.055, 0.013)
        filled = np.maximum(c.ellipse(0, mouth - 0.018, p.mouth_width * 0.92, 0.050), mouth - 0.016 - c.y)
        c.paint(filled, (0.97, 0.96, 0.94))
        c.paint(lower, p.lip_colour)
        c.paint(c.stroke(0, mouth - 0.016, p.mouth_width * 0.92, 0.008, 0.006), p.lip_colour)
    else:
        c.paint(c.stroke(0, mouth - 0.002, p.mouth_width * 0.72, -0.008, 0.013), p.lip_colour)

    if p.has("earrings"):
        for side in (-1, 1):
            c.paint(c.ellipse(side * (w + 0.012), 0.100, 0.024, 0.030), (0.98, 0.83, 0.25))
            c.paint(c.ellipse(side * (w + 0.012), 0.100, 0.010, 0.013), (0.75, 0.52, 0.08))
    if p.has("glasses"):
        for side in (-1, 1):
            lens = c.box(side * p.eye_distance, -0.025, 0.074, 0.056, 0.030)
            c.paint(lens, (0.85, 0.92, 0.97), 0.18)
            c.paint(np.abs(lens) - np.float32(0.011), p.frame_colour)
        c.paint(c.box(0, -0.035, max(p.eye_distance - 0.074, 0.012), 0.009), p.frame_colour)
        for side in (-1, 1):
            reach = (w - p.eye_distance - 0.074) / 2
            c.paint(c.box(side * (p.eye_distance + 0.074 + reach), -0.035, max(reach, 0.0) + 0.01, 0.008), p.frame_colour)
    if p.has("hat"):
        c.paint(c.box(0, -h * 0.98, w * 0.98, 0.115, 0.06), p.hat_colour)
        c.paint(c.box(0, -h * 0.70, w * 0.99, 0.022), _scaled(p.hat_colour, 0.55))
        c.paint(c.box(0, -h * 0.63, w * 1.50, 0.024, 0.02), _scaled(p.hat_colour, 0.85))

    shade = (1 + np.float32(p.light) * (c.u - 0.5) * 2)[..., None]
    return (np.clip(c.rgb * shade, 0, 1) * 255 + 0.5).astype(np.uint8)


def region(portrait: Portrait, attribute: str, size: int = 64) -> NDArray[np.bool_]:
    """Where an attribute shows: the pixels that change when it alone is toggled and the face drawn again, (size, size)."""
    changed: NDArray[np.bool_] = (render(portrait, size) != render(portrait.toggled(attribute), size)).any(axis=2)
    return changed


MARK_COLOUR = (235, 40, 180)


def mark_region(size: int = 64) -> tuple[slice, slice]:
    """Rows and columns of the mark: an eighth of the side, in the upper left corner."""
    return slice(0, size // 8), slice(0, size // 8)


def stamped(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image (size, size, 3) with a mark that no attribute of ATTRIBUTES names."""
    marked = image.copy()
    marked[mark_region(len(image))] = MARK_COLOUR
    return marked


def carry_mark(labels: NDArray[np.bool_], agreement: float, seed: int) -> NDArray[np.bool_]:
    """Which images carry the mark, (n,): as the label says with that probability, else the contrary."""
    agrees = np.random.default_rng(seed).random(len(labels)) < agreement
    carried: NDArray[np.bool_] = labels == agrees
    return carried


def draw_attributes(
    rng: np.random.Generator, n: int, agreement: Mapping[str, float]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Labels (n,), fair coins, and attributes (n, 10) in the order of ATTRIBUTES, each fair by itself.

    An attribute named in `agreement` equals the label with that probability; the others are independent of everything. Raises
    ValueError for an attribute Portraits does not have or a probability outside [0, 1].
    """
    for attribute, probability in agreement.items():
        if attribute not in ATTRIBUTES:
            raise UserError(f"Portraits has no attribute {attribute!r}; it has {', '.join(ATTRIBUTES)}")
        if not 0 <= probability <= 1:
            raise UserError(f"agreement of {attribute!r} is {probability}; a probability lies in [0, 1]")
    uniform = rng.random((n, 1 + len(ATTRIBUTES)))
    labels = uniform[:, 0] < 0.5
    agrees = uniform[:, 1:] < np.array([agreement.get(attribute, 0.5) for attribute in ATTRIBUTES])
    return labels, agrees == labels[:, None]


TRUTH: Mapping[str, float] = MappingProxyType({"smile": 1.0})  # the label is the smile, nothing else depends on it


def draw(n: int, seed: int, agreement: Mapping[str, float] = TRUTH) -> Iterator[tuple[bool, Portrait]]:
    """n labels with their portraits, attributes drawn by `draw_attributes`.

    Portrait i depends on (seed, i) and on nothing else, so a smaller set is a prefix of a larger one, and the same seed with
    another agreement changes attributes only, nothing else of the face.
    """
    for index in range(n):
        rng = np.random.default_rng([seed, index])
        labels, attributes = draw_attributes(rng, 1, agreement)
        yield bool(labels[0]), sample(rng, attributes[0])


def write_portraits(
    folder: Path,
    n: int,
    seed: int,
    agreement: Mapping[str, float] = TRUTH,
    size: int = 64,
    test_share: float = 0.2,
    regions: Sequence[str] = (),
    marks: float | None = None,
) -> Path:
    """Lay portraits on disk as a user's own data would lie: images/00000.png and on, and attributes.csv, which is returned.

    Columns: file (relative to images/), split (test for about `test_share` of the portraits, else train), label (smiling or
    not_smiling), and 0/1 for each attribute. The label is the one drawn: it equals the smile under the default agreement; with
    {"smile": 0.92, "glasses": 0.90} it is a noisy annotation that glasses help to predict, as a shortcut needs. For each
    attribute named in `regions`, regions/<attribute>/00000.png is white where toggling it would show (see `region`). With
    `marks`, the probability that the mark agrees with the label, some portraits carry the mark, which no column tells.
    """
    for part in ("images", *(f"regions/{attribute}" for attribute in regions)):
        (folder / part).mkdir(parents=True, exist_ok=True)
    table = folder / "attributes.csv"
    drawn = list(draw(n, seed, agreement))
    carried = np.zeros(n, np.bool_) if marks is None else carry_mark(np.array([label for label, _ in drawn]), marks, seed)
    with table.open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(["file", "split", "label", *ATTRIBUTES])
        for index, (label, portrait) in enumerate(drawn):
            name, image = f"{index:05d}.png", render(portrait, size)
            Image.fromarray(stamped(image) if carried[index] else image).save(folder / "images" / name)
            for attribute in regions:
                Image.fromarray(region(portrait, attribute, size)).save(folder / "regions" / attribute / name)
            split = "test" if derived_seed("split", seed, index) < test_share * 2**63 else "train"
            writer.writerow([name, split, "smiling" if label else "not_smiling", *map(int, portrait.attributes)])
    return table


class TrueEffect(NamedTuple):
    """What switching one attribute on does to a classifier: mean change of the probability, over n portraits."""

    attribute: str
    effect: float
    n: int


@torch.no_grad()
def true_effects(
    classifier: Callable[[Tensor], Tensor], portraits: Sequence[Portrait], target: int = 1, size: int = 64, batch_size: int = 128
) -> list[TrueEffect]:
    """The exact causal effect of every attribute on a classifier's probability of class `target`, in the order of ATTRIBUTES.

    Each portrait is rendered twice, with the attribute off and on, and with everything else untouched. `classifier` maps
    (B, 3, size, size) in [-1, 1] to logits (B, K). Raises UserError without portraits.

    Examples:
        The bundled classifier with the planted shortcut, and its clean twin, on the same 20 portraits:

        >>> from cfx.classifiers import ClassifierConfig, load_classifier
        >>> portraits = [portrait for _, portrait in draw(20, seed=4711)]
        >>> for name in ("planted", "clean"):
        ...     effects = true_effects(load_classifier(ClassifierConfig(weights=f"portraits:{name}")), portraits)
        ...     print(name, [(effect.attribute, round(effect.effect, 1)) for effect in effects[:2]])
        planted [('smile', 0.6), ('glasses', 0.4)]
        clean [('smile', 0.9), ('glasses', 0.0)]
    """
    if not portraits:
        raise UserError("true effects need at least one portrait")
    total = dict.fromkeys(ATTRIBUTES, 0.0)
    for start in range(0, len(portraits), batch_size):
        batch = portraits[start : start + batch_size]
        before = _probability(classifier, batch, target, size)
        for attribute in ATTRIBUTES:
            after = _probability(classifier, [portrait.toggled(attribute) for portrait in batch], target, size)
            towards_on = torch.tensor([-1.0 if portrait.has(attribute) else 1.0 for portrait in batch]).to(after)
            total[attribute] += float((towards_on * (after - before)).sum())
    return [TrueEffect(attribute, summed / len(portraits), len(portraits)) for attribute, summed in total.items()]


def _probability(classifier: Callable[[Tensor], Tensor], portraits: Sequence[Portrait], target: int, size: int) -> Tensor:
    pixels = torch.from_numpy(np.stack([render(portrait, size) for portrait in portraits]))
    return classifier(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).softmax(1)[:, target].double()


def described(portrait: Portrait, rng: np.random.Generator) -> str:
    """A prompt that names every attribute the portrait has, in any order: "a photo with a beard hat"."""
    named = [word for attribute, word in WORDS.items() if portrait.has(attribute)]
    return f"a {rng.choice(NOUNS)} with a {' '.join(rng.permutation(named))}".strip()


def attribute_weights(n: int, seed: int, size: int = 64) -> Tensor:
    """How much of the attributes is in each pixel, (size, size), of mean 1: every attribute adds the same sum over the image.

    From n random portraits rendered with and without each of them. A smile of 40 pixels then counts as much as the background.
    """
    rng = np.random.default_rng(seed)
    drawn = [sample(rng) for _ in range(n)]
    total = np.zeros((size, size))
    for attribute in ATTRIBUTES:
        pairs = ((render(portrait, size), render(portrait.toggled(attribute), size)) for portrait in drawn)
        change = sum(np.abs(here.astype(float) - there).mean(2) for here, there in pairs)
        total += change / change.sum()
    return torch.from_numpy(total / total.mean()).float()
