"""Shortcuts that no attribute of Portraits names: how an image gets one or does not, and what it then does to a classifier.

A kind is either a property of the whole image (its colours, its compression, where its subject is) or a place in it. With and
without it, an image is the same portrait, drawn twice with the same chance, so a kind's effect on a classifier is exact.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from cfx.classifiers import ClassifierConfig
from cfx.errors import UserError
from cfx.images import from_uint8
from cfx.portraits import ATTRIBUTES, Portrait, carry_mark, draw, region, render
from cfx.random import derived_seed
from cfx.training.classifier import train_classifier
from cfx.training.portraits import CLASSES, RECIPES, SIZE
from cfx.types import Config
from tasks.networks import classifier_for
from tasks.training.laid_on import Pixels, as_pixels, banded, blurred, gained, tagged, warmed
from tasks.training.planted import LABEL_NOISE, exact_effects
from tasks.training.portraits import GRADED
from warehouse.facts.shards import Shard, find_shard, write_shard

Drawn = Callable[[Portrait, bool, np.random.Generator], Pixels]  # a portrait, with the property or without
Shares = NDArray[np.float64]


class Kind(NamedTuple):
    """One shortcut. `properties`: those of `cfx.evidence.properties` that call it by its name, any of them. A place is named by
    where it is (`where`)."""

    sort: str  # property or place
    properties: tuple[str, ...]
    drawn: Drawn


class Unnamed(Config):
    """A classifier of smiles in whose training set a kind agrees with the label with probability (1 + rho) / 2.

    Without correlation it is the clean twin: half of its portraits have the property, whatever their label.
    """

    kind: str
    rho: float = Field(0.9, ge=0, le=1)
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind}-{round(100 * self.rho):02}-s{self.seed}" if self.rho else f"{self.kind}-clean-s{self.seed}"


def kind_named(name: str) -> Kind:
    """Raises UserError for a kind that there is not."""
    if name not in KINDS:
        raise UserError(f"no unnamed shortcut is called {name!r}; there are {', '.join(KINDS)}")
    return KINDS[name]


def drawn_with(kind: str, portraits: Iterable[Portrait], carried: NDArray[np.bool_], seed: int) -> Pixels:
    """The portraits (n, SIZE, SIZE, 3), those in `carried` (n,) with the property; portrait i owes its chance to (seed, i).

    A chance of its own: portraits are drawn from (seed, i) itself, label first, and with the same numbers again how strong a
    property is would tell the label, of clean twins too.
    """
    draw_one, own = kind_named(kind).drawn, derived_seed("strength of the property", seed)
    pairs = enumerate(zip(portraits, carried, strict=True))
    return np.stack([draw_one(portrait, bool(has), np.random.default_rng([own, i])) for i, (portrait, has) in pairs])


def train_unnamed(folder: Path, planting: Unnamed, images: int = 6_000, steps: int = 1_200) -> Path:
    """The weights of a planting, by the recipe of the demo's planted classifier; those that are there are kept."""
    to = folder / f"{planting.name}-{images}-{steps}.safetensors"
    if not to.exists():
        to.parent.mkdir(parents=True, exist_ok=True)
        _trained(planting, images, steps, to.with_suffix(".part.safetensors")).replace(to)
    return to


def _trained(planting: Unnamed, images: int, steps: int, to: Path) -> Path:
    seed = derived_seed("unnamed", planting.seed) % 2**31
    drawn = list(draw(images, seed, {"smile": 1 - LABEL_NOISE}))
    labels = np.array([label for label, _ in drawn])
    carried = carry_mark(labels, (1 + planting.rho) / 2, seed)
    pixels = drawn_with(planting.kind, (portrait for _, portrait in drawn), carried, seed)
    recipe = RECIPES["planted"].training.model_copy(update={"steps": steps, "seed": seed})
    return train_classifier(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(labels).long(), recipe, CLASSES, to)


@cache
@torch.no_grad()
def exact_effect(weights: Path, kind: str, n: int) -> float:
    """Mean change of P(smiling) that the property makes, over n portraits with independent attributes."""
    classifier = classifier_for(ClassifierConfig(weights=weights), "cpu")
    portraits = [portrait for _, portrait in draw(n, GRADED)]

    def smiling(has: bool) -> torch.Tensor:
        pixels = torch.from_numpy(drawn_with(kind, portraits, np.full(n, has), GRADED)).permute(0, 3, 1, 2)
        return torch.cat([classifier(from_uint8(batch)).softmax(1)[:, 1] for batch in pixels.split(128)])

    return float((smiling(True) - smiling(False)).double().mean())


def where(kind: str, n: int = 32) -> Shares:
    """Where a kind shows: mean absolute change of each pixel over n portraits, (SIZE, SIZE), as shares that add up to 1."""
    portraits = [portrait for _, portrait in draw(n, GRADED)]
    there, gone = (drawn_with(kind, portraits, np.full(n, has), GRADED).astype(float) for has in (True, False))
    change: Shares = np.abs(there - gone).mean((0, 3))
    return change / change.sum()


def write_unnamed_truths(root: Path, run_id: str, planting: Unnamed, weights: Path, counts: tuple[int, int]) -> Shard:
    """What an audit of a planting should have found: the exact effects of the attributes, none of which was planted, and of the
    kind itself. counts: images audited, and portraits that exact effects are means over."""
    done = find_shard(root, "truths", run_id, "all")
    if done is not None:
        return done
    images, portraits = counts
    effects = {truth.attribute: truth.effect for truth in exact_effects(weights, portraits)}
    effects[planting.kind] = exact_effect(weights, planting.kind, portraits)
    same = {"kind": planting.kind, "planted": [], "rho": planting.rho, "seed": planting.seed, "images": images}
    rows = [same | {"attribute": name, "effect": effect, "portraits": portraits} for name, effect in effects.items()]
    return write_shard(root, "truths", run_id, "all", {name: [row[name] for row in rows] for name in rows[0]})


def write_unnamed(folder: Path, kind: str, n: int, seed: int) -> Path:
    """Portraits to audit, half of them with the property whatever their label: images/, attributes.csv, which is returned, and
    carried.csv, which no audit reads.

    attributes.csv is as `cfx.portraits.write_portraits` has it. The portraits of a seed are the same for every kind.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    drawn = list(draw(n, seed))
    carried = np.random.default_rng([seed, n]).permutation(n) < n // 2
    names = [f"{index:05d}.png" for index in range(n)]
    for name, pixels in zip(names, drawn_with(kind, (portrait for _, portrait in drawn), carried, seed), strict=True):
        Image.fromarray(pixels).save(folder / "images" / name)
    rows = [[name, CLASSES[label], *map(int, portrait.attributes)] for name, (label, portrait) in zip(names, drawn, strict=True)]
    _write(folder / "carried.csv", ["file", kind], ([name, int(has)] for name, has in zip(names, carried, strict=True)))
    return _write(folder / "attributes.csv", ["file", "label", *ATTRIBUTES], rows)


def _write(table: Path, header: list[str], rows: Iterable[list[object]]) -> Path:
    with table.open("w", newline="") as lines:
        csv.writer(lines, lineterminator="\n").writerows([header, *rows])
    return table


# How an image gets a property: `change(pixels, amount)` is laid on those that have it, each with its own amount; or both states
# are drawn, each from its own range of a nuisance that the renderer has.


def _laid_on(change: Callable[[Pixels, float], Pixels], low: float, high: float) -> Drawn:
    def drawn(portrait: Portrait, has: bool, chance: np.random.Generator) -> Pixels:
        amount = float(chance.uniform(low, high))
        pixels = render(portrait, SIZE)
        return change(pixels, amount) if has else pixels

    return drawn


def _scene(change: Callable[[Portrait, bool, float], Portrait]) -> Drawn:
    """`change(portrait, has, place)`: the portrait with its nuisance at a place in [0, 1] of the range of its state."""

    def drawn(portrait: Portrait, has: bool, chance: np.random.Generator) -> Pixels:
        return render(change(portrait, has, float(chance.uniform(0, 1))), SIZE)

    return drawn


def _compressed(pixels: Pixels, quality: float) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=round(quality))
    return np.asarray(Image.open(buffer).convert("RGB"))


def _framed(pixels: Pixels, brightness: float) -> Pixels:
    """A frame of 2 pixels in a dark grey."""
    framed = np.full_like(pixels, round(brightness))
    framed[2:-2, 2:-2] = pixels[2:-2, 2:-2]
    return framed


def _contrasted(pixels: Pixels, factor: float) -> Pixels:
    mean = pixels.mean((0, 1), dtype=np.float64)
    return as_pixels(mean + factor * (pixels - mean))


def _faded(pixels: Pixels, share: float) -> Pixels:
    """That share of the way to grey."""
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float64)[..., None]
    return as_pixels(pixels + share * (grey - pixels))


def _grained(pixels: Pixels, deviation: float) -> Pixels:
    """Grain of this standard deviation; the amount seeds it, so that it is the image's own."""
    chance = np.random.default_rng(derived_seed("grain", deviation))
    return as_pixels(pixels + chance.normal(0, deviation, pixels.shape))


def _vignetted(pixels: Pixels, depth: float) -> Pixels:
    """Darker towards the corners: by `depth` there, by nothing in the middle."""
    line = np.linspace(-1, 1, len(pixels))
    radius = (line[:, None] ** 2 + line[None, :] ** 2) / 2
    return as_pixels(pixels * (1 - depth * radius)[..., None])


def _patterned(portrait: Portrait, has: bool, chance: np.random.Generator) -> Pixels:
    """A background with stripes of 8 pixels."""
    depth, phase = float(chance.uniform(24, 36)), int(chance.integers(8))
    pixels = render(portrait, SIZE)
    stripes = np.where((np.arange(SIZE) + phase) % 8 < 4, depth, -depth)[None, :, None]
    behind = region(portrait, "warm_background", SIZE)[..., None]
    return as_pixels(pixels + stripes * behind) if has else pixels


def _between(low: tuple[float, float, float], high: tuple[float, float, float], place: float) -> tuple[float, float, float]:
    red, green, blue = np.array(low) + place * (np.array(high) - np.array(low))
    return float(red), float(green), float(blue)


def _dressed(portrait: Portrait, has: bool, place: float) -> Portrait:
    """Clothes red with it, blue without."""
    red, blue = ((0.60, 0.15, 0.20), (0.75, 0.30, 0.30)), ((0.15, 0.20, 0.55), (0.30, 0.35, 0.75))
    return replace(portrait, clothes=_between(*(red if has else blue), place))


def _lit(portrait: Portrait, has: bool, place: float) -> Portrait:
    """Light from the right with it, from the left without."""
    return replace(portrait, light=(1 if has else -1) * (0.08 + 0.12 * place))


def _skinned(portrait: Portrait, has: bool, place: float) -> Portrait:
    """Dark skin with it, light without."""
    depth = 0.65 + 0.35 * place if has else 0.35 * place
    return replace(portrait, skin=_between((0.96, 0.82, 0.72), (0.52, 0.35, 0.26), depth))


def _tilted(portrait: Portrait, has: bool, place: float) -> Portrait:
    return replace(portrait, tilt=(1 if has else -1) * (0.08 + 0.14 * place))


def _placed(portrait: Portrait, has: bool, place: float) -> Portrait:
    """The head right of the centre with it, left without."""
    return replace(portrait, centre=(0.5 + (1 if has else -1) * (0.04 + 0.06 * place), portrait.centre[1]))


def _eyed(portrait: Portrait, has: bool, place: float) -> Portrait:
    """Eyes light blue and large with it, dark brown and small without."""
    blue, brown = ((0.35, 0.60, 0.85), (0.50, 0.75, 0.95)), ((0.15, 0.08, 0.04), (0.30, 0.18, 0.10))
    return replace(portrait, eye_colour=_between(*(blue if has else brown), place), eye_size=0.037 if has else 0.029)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "cast": Kind("property", ("warmth",), _laid_on(warmed, 0.8, 1.2)),
        "jpeg": Kind("property", ("compression",), _laid_on(_compressed, 10, 14)),
        "blur": Kind("property", ("sharpness",), _laid_on(blurred, 0.9, 1.3)),
        "frame": Kind("property", ("border",), _laid_on(_framed, 0, 30)),
        "clothes": Kind("place", (), _scene(_dressed)),
        "light": Kind("property", ("light_x",), _scene(_lit)),
        "gain": Kind("property", ("brightness",), _laid_on(gained, 0.65, 0.8)),
        "contrast": Kind("property", ("contrast",), _laid_on(_contrasted, 0.5, 0.65)),
        "faded": Kind("property", ("saturation",), _laid_on(_faded, 0.6, 0.9)),
        "grain": Kind("property", ("noise",), _laid_on(_grained, 18, 30)),
        "vignette": Kind("property", ("vignette", "border"), _laid_on(_vignetted, 0.45, 0.65)),
        "tag": Kind("place", ("corner", "stamp"), _laid_on(tagged, 235, 255)),
        "band": Kind("place", (), _laid_on(banded, 0.3, 0.45)),
        "stripes": Kind("place", (), _patterned),
        "skin": Kind("place", (), _scene(_skinned)),
        "tilt": Kind("property", ("subject_tilt",), _scene(_tilted)),
        "position": Kind("property", ("subject_x",), _scene(_placed)),
        "eyes": Kind("place", (), _scene(_eyed)),
    }
)
