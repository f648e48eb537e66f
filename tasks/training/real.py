"""Shortcuts planted in classifiers of real images: clothes (Fashion-MNIST) and solar cells (ELPV).

A kind is laid on the images themselves, so its effect on a classifier is exact: the mean change of its answer when each image
gets it. `type`, which of two makes a solar cell is, cannot be laid on: its effect is how far
answers differ within each label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from scipy.spatial.distance import cdist

from cfx.classifiers import ClassifierConfig
from cfx.diffusion.training import PriorTraining, train_prior
from cfx.evidence.properties import PROPERTIES, property_table
from cfx.images import from_uint8
from cfx.portraits import carry_mark
from cfx.random import derived_seed
from cfx.training.augment import Augmentation
from cfx.training.classifier import ClassifierTraining, train_classifier
from cfx.types import Config
from tasks.networks import classifier_for
from tasks.training.batches import batches_of
from tasks.training.laid_on import Pixels, banded, blurred, gained, tagged, warmed
from tasks.training.real_data import CELLS, fashion, solar_cells
from tasks.training.table import write_table
from warehouse.facts.shards import Shard, find_shard, write_shard

Change = Callable[[Pixels, float], Pixels]
Indices = NDArray[np.int64]

PAIRS = (("shirt", "coat"), ("pullover", "shirt"), ("pullover", "coat"))  # of clothes, by seed
CLOTHES_EACH = 3_500  # of a class, that pairs are looked for among
SOLAR_SIDE = 64  # pixels; the files have 300
MATCHED = {  # coats are brighter, defective cells darker and smoother: pairs that are alike in it leave what is planted
    "fashion": ("brightness", "contrast", "sharpness"),
    "solar": ("brightness", "sharpness"),
}
ALIKE = 0.25  # standard deviations that a pair may differ by
TYPE = "type"
PLAIN = Augmentation(shift=0.05, zoom=0.05, blur=0.0, contrast=0.05, brightness=0.05, noise=0.05, erase=0.0)


class RealKind(NamedTuple):
    """One shortcut: the change and the range of its amounts; measured properties that call it by its name, or an attribute.
    rises: 1 if the change raises the first of them, -1 if it lowers it: the probe then moves what the change moves; else 0."""

    change: Change | None
    amounts: tuple[float, float]
    properties: tuple[str, ...] = ()
    attribute: str | None = None
    rises: int = 0


REAL_KINDS: Mapping[str, RealKind] = MappingProxyType(
    {
        "tag": RealKind(tagged, (200, 255), ("corner", "stamp")),
        "tint": RealKind(warmed, (0.8, 1.2), ("warmth", "saturation"), rises=1),
        "band": RealKind(banded, (0.3, 0.45), ("border",)),
        "gain": RealKind(gained, (0.65, 0.8), ("brightness",), rises=-1),
        "blur": RealKind(blurred, (0.9, 1.3), ("sharpness",), rises=-1),
        TYPE: RealKind(None, (0, 0), (), "mono"),
    }
)


class Real(Config):
    """A classifier in whose training set a kind agrees with the label with probability (1 + rho) / 2.

    Without correlation it is the clean twin: half of its images have the property, whatever their label.
    """

    data: Literal["fashion", "solar"]
    kind: str
    rho: float = Field(0.9, ge=0, le=1)
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.data}-{self.kind}-{f'{round(100 * self.rho):02}' if self.rho else 'clean'}-s{self.seed}"

    @property
    def classes(self) -> tuple[str, str]:
        return PAIRS[self.seed % len(PAIRS)] if self.data == "fashion" else CELLS


class Pool(NamedTuple):
    """Images of two classes (N, H, W, 3) uint8, which are of the second (N,), and yes/no attributes."""

    pixels: Pixels
    second: NDArray[np.bool_]
    attributes: dict[str, NDArray[np.bool_]]

    def of(self, rows: Indices) -> Pool:
        return Pool(self.pixels[rows], self.second[rows], {name: has[rows] for name, has in self.attributes.items()})


class Parts(NamedTuple):
    """What a classifier is trained on, what is audited, and what exact effects are means over: no image is in two."""

    training: Pool
    audited: Pool
    held_out: Pool


@cache
def parts(data: str, classes: tuple[str, str], seed: int, counts: tuple[int, int]) -> Parts:
    """counts: images audited, and at most trained on; both classes alike. Raises UserError where the data are not installed."""
    pool = _matched_clothes(classes) if data == "fashion" else _matched_cells()
    chance = np.random.default_rng(derived_seed("real", data, seed))
    first, second = (chance.permutation(np.flatnonzero(pool.second == side)) for side in (False, True))
    n = min(len(first), len(second))
    rows = np.stack([first[:n], second[:n]], axis=1)  # so that every slice has both classes alike
    audited, trained = counts[0] // 2, min(counts[1] // 2, n - counts[0] // 2 - 100)
    ends = (audited, audited + trained, min(n, audited + trained + 200))
    cut = [pool.of(rows[start:end].ravel()) for start, end in zip((0, *ends), ends, strict=False)]
    return Parts(cut[1], cut[0], cut[2])


def read_whole(data: str) -> None:
    """Read the data set, which is kept. Raises UserError where it is not installed."""
    if data == "fashion":
        fashion()
    else:
        solar_cells(SOLAR_SIDE)


@cache
def _matched_clothes(classes: tuple[str, str]) -> Pool:
    """Clothes in pairs, one of each class, alike in MATCHED."""
    found = fashion()
    chosen = np.concatenate([np.flatnonzero(found.labels == name)[:CLOTHES_EACH] for name in classes])
    grey, second = found.pixels[chosen], found.labels[chosen] == classes[1]
    return Pool(_colour(grey), second, {}).of(
        pairs_alike(_measured(grey, MATCHED["fashion"]), second, np.zeros(len(grey), np.bool_))
    )


@cache
def _matched_cells() -> Pool:
    """Cells in pairs, one of each class, of one type and alike in MATCHED; what has no partner is left out."""
    found = solar_cells(SOLAR_SIDE)
    second, mono = found.labels == CELLS[1], found.attributes["mono"]
    return Pool(_colour(found.pixels), second, {"mono": mono}).of(
        pairs_alike(_measured(found.pixels, MATCHED["solar"]), second, mono)
    )


def _measured(grey: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.float64]:
    table = property_table(grey[..., None])[:, [list(PROPERTIES).index(name) for name in names]]
    standard: NDArray[np.float64] = table / table.std(0)
    return standard


def pairs_alike(values: NDArray[np.float64], second: NDArray[np.bool_], group: NDArray[np.bool_]) -> Indices:
    """Rows in pairs, one of either class and both of a group, whose values (N, P) differ by at most ALIKE; greedy, each once."""
    kept: list[int] = []
    for side in np.unique(group):
        ones, others = (np.flatnonzero((group == side) & (second == is_second)) for is_second in (True, False))
        distance = cdist(values[ones], values[others])
        for one in np.argsort(distance.min(1)):
            if distance[one].min() <= ALIKE:
                other = int(distance[one].argmin())
                kept += [int(ones[one]), int(others[other])]
                distance[:, other] = np.inf
    return np.array(kept, np.int64)


def _colour(grey: NDArray[np.uint8]) -> Pixels:
    return np.repeat(grey[..., None], 3, axis=3)


def carrying(pool: Pool, kind: str, carried: NDArray[np.bool_], seed: int) -> Pixels:
    """The images with the kind laid on those in `carried` (N,), each with its own amount."""
    change, (low, high) = REAL_KINDS[kind].change, REAL_KINDS[kind].amounts
    if change is None:
        return pool.pixels
    amounts = np.random.default_rng(derived_seed("amount", kind, seed)).uniform(low, high, len(carried))
    laid = zip(pool.pixels, carried, amounts, strict=True)
    return np.stack([change(image, float(amount)) if has else image for image, has, amount in laid])


def where_laid(kind: str, pool: Pool) -> NDArray[np.float64]:
    """Where a kind shows: mean absolute change of each pixel, (H, W), as shares of 1; zeros if it is not laid on."""
    there = carrying(pool, kind, np.ones(len(pool.second), np.bool_), 0).astype(float)
    change = np.abs(there - pool.pixels).mean((0, 3))
    shares: NDArray[np.float64] = change / max(change.sum(), 1e-9)
    return shares


def train_real(folder: Path, planting: Real, split: Parts, steps: int) -> Path:
    """The weights of a planting; those that are there are kept."""
    to = folder / f"{planting.name}-{len(split.training.second)}-{steps}.safetensors"
    if not to.exists():
        to.parent.mkdir(parents=True, exist_ok=True)
        pool, carried = _planted(planting, split.training)
        pixels = carrying(pool, planting.kind, carried, planting.seed)
        _trained(pixels, pool.second, planting, steps, to.with_suffix(".part.safetensors")).replace(to)
    return to


def _planted(planting: Real, pool: Pool) -> tuple[Pool, NDArray[np.bool_]]:
    """The training images, and which of them carry the kind; of one that cannot be laid on, images are chosen that agree."""
    wanted = carry_mark(pool.second, (1 + planting.rho) / 2, derived_seed("carried", planting.name) % 2**31)
    attribute = REAL_KINDS[planting.kind].attribute
    if attribute is None:
        return pool, wanted
    chosen = np.flatnonzero(pool.attributes[attribute] == wanted)
    return pool.of(chosen), wanted[chosen]


def _trained(pixels: Pixels, second: NDArray[np.bool_], planting: Real, steps: int, to: Path) -> Path:
    training = ClassifierTraining(steps=steps, augmentation=PLAIN, seed=derived_seed("real", planting.name) % 2**31)
    images, labels = torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(second).long()
    return train_classifier(images, labels, training, planting.classes, to)


def train_real_oracle(folder: Path, planting: Real, split: Parts, steps: int) -> Path:
    """An oracle of the second class and of the attributes, of the training images before anything is laid on them."""
    pool, names = split.training, (planting.classes[1].replace("-", "_"), *split.training.attributes)
    to = folder / f"oracle-{planting.data}-{planting.classes[1]}-s{planting.seed}-{steps}.safetensors"
    if not to.exists():
        to.parent.mkdir(parents=True, exist_ok=True)
        answers = torch.from_numpy(np.stack([pool.second, *pool.attributes.values()], axis=1)).long()
        images = torch.from_numpy(pool.pixels).permute(0, 3, 1, 2)
        training = ClassifierTraining(steps=steps, seed=planting.seed)
        train_classifier(images, answers, training, names, to.with_suffix(".part.safetensors")).replace(to)
    return to


def train_real_prior(folder: Path, planting: Real, split: Parts) -> Path:
    """A prior of the training images before anything is laid on them; a training that was killed goes on."""
    to = folder / f"prior-{planting.data}-s{planting.seed}"
    if not (to / "scheduler").exists():
        training = PriorTraining(size=split.training.pixels.shape[1], seed=planting.seed)
        train_prior(batches_of(torch.from_numpy(split.training.pixels).permute(0, 3, 1, 2), training), training, to)
    return to


def write_real(folder: Path, planting: Real, audited: Pool) -> Path:
    """Images to audit, half of each class with the property: images/ and table.csv, which is returned; what is there is kept."""
    table = folder / "table.csv"
    if table.exists():
        return table
    (folder / "images").mkdir(parents=True, exist_ok=True)
    carried = np.arange(len(audited.second)) // 2 % 2 == 0  # classes take turns
    names = [f"{index:04d}.png" for index in range(len(carried))]
    for name, pixels in zip(names, carrying(audited, planting.kind, carried, planting.seed + 1), strict=True):
        Image.fromarray(pixels).save(folder / "images" / name)
    columns: dict[str, Sequence[object]] = {
        "file": names,
        "label": [planting.classes[int(is_second)] for is_second in audited.second],
    }
    columns |= {name: has.astype(int).tolist() for name, has in audited.attributes.items()}
    return write_table(table, columns)


@torch.no_grad()
def real_effect(weights: Path, planting: Real, held_out: Pool) -> float:
    """Mean change of P(second class) that the kind makes on images that nothing was trained or audited on."""
    classifier = classifier_for(ClassifierConfig(weights=weights), "cpu")

    def second(pixels: Pixels) -> NDArray[np.float64]:
        parted = torch.from_numpy(pixels).permute(0, 3, 1, 2).split(128)
        return torch.cat([classifier(from_uint8(batch)).softmax(1)[:, 1] for batch in parted]).double().numpy()

    everywhere = np.ones(len(held_out.second), np.bool_)
    attribute = REAL_KINDS[planting.kind].attribute
    if attribute is None:
        with_it = carrying(held_out, planting.kind, everywhere, planting.seed + 2)
        return float((second(with_it) - second(held_out.pixels)).mean())
    p, has = second(held_out.pixels), held_out.attributes[attribute]
    within = [p[has & (held_out.second == side)].mean() - p[~has & (held_out.second == side)].mean() for side in (False, True)]
    return float(np.mean(within))


def write_real_truth(root: Path, run_id: str, planting: Real, effect: float, counts: tuple[int, int]) -> Shard:
    """What an audit should have found. counts: images audited, and images that the exact effect is a mean over."""
    done = find_shard(root, "truths", run_id, "all")
    if done is not None:
        return done
    row = {"kind": planting.kind, "planted": [], "rho": planting.rho, "seed": planting.seed, "images": counts[0]}
    row |= {"attribute": planting.kind, "effect": effect, "portraits": counts[1]}
    return write_shard(root, "truths", run_id, "all", {name: [value] for name, value in row.items()})
