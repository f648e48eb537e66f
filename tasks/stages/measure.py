"""The measuring stage: what each counterfactual scores on its own, and what the encoders see of every image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, groupby
from typing import Any, NamedTuple

import pyarrow.compute as pc
import torch
from torch import Tensor

from cfx.autoencoder import Autoencoders
from cfx.features import Encoder
from cfx.images import decode_png
from cfx.metrics.agreement import change_map
from cfx.metrics.cout import cout
from cfx.metrics.distances import distances
from cfx.metrics.insertion_deletion import Game, area_under, curves
from cfx.metrics.plausibility import im1, im2
from cfx.metrics.similarity import cosine
from cfx.perceptual import LPIPS, Backbone
from cfx.transfers import to_device
from cfx.types import Classifier
from tasks.run import Run
from tasks.shard_images import read_images
from tasks.stage import Rows, stage
from tasks.stages.autoencoders import autoencoders_for
from tasks.stages.encoders import encoders_for, measures_cout, perceptual_for
from tasks.stages.learn import Learned
from warehouse.facts.shards import Shard, read_shard

KEYS = ("image_id", "method", "arm", "seed")
PATCHES, STEPS = 16, 16  # insertion and deletion play 16 x 16 patches in 16 steps
Columns = dict[str, list[Any]]
GAMES: tuple[Game, ...] = ("insertion", "deletion")


class Explained(NamedTuple):
    """The guided explanations of one shard, from the 8-bit images that people see."""

    image_ids: list[str]  # of all images of the shard, explained or not
    images: Tensor  # (I, 3, H, W), theirs
    keys: Columns  # of the N explanations
    rows: list[int]  # (N,) which image each explains
    x_cf: Tensor  # (N, 3, H, W)
    source: list[str]
    target: list[str]

    @property
    def x(self) -> Tensor:
        return self.images[self.rows]


class Measured(NamedTuple):
    """One measure of every explanation; NaN where it has none."""

    measure: str
    encoder: str | None
    values: Tensor  # (N,)


def read_explained(images: Shard, explained: Shard, device: str) -> Explained:
    """One shard's guided explanations beside their images."""
    table = read_shard(explained, [*KEYS, "source", "target", "png"])
    table = table.filter(pc.equal(table["arm"], "guided"))
    ids, x = read_images(images)
    x = to_device(x, device)
    place = {image_id: i for i, image_id in enumerate(ids)}
    keys = {name: table[name].to_pylist() for name in KEYS}
    x_cf = to_device(decode_png(table["png"].to_pylist()), device) if len(table) else x[:0]
    rows = [place[image_id] for image_id in keys["image_id"]]
    return Explained(ids, x, keys, rows, x_cf, table["source"].to_pylist(), table["target"].to_pylist())


def _batched(function: Callable[..., Tensor], batch_size: int, *tensors: Tensor) -> Tensor:
    return torch.cat([function(*parts) for parts in zip(*(t.split(batch_size) for t in tensors), strict=True)]).cpu()


def _encoded(found: Explained, encoders: dict[str, Encoder], batch_size: int) -> dict[str, tuple[Tensor, Tensor]]:
    """By encoder, the features of all images of the shard and of the counterfactuals."""
    together, n = torch.cat([found.images, found.x_cf]), len(found.images)
    seen = {name: _batched(encoder, batch_size, together) for name, encoder in encoders.items()}
    return {name: (features[:n], features[n:]) for name, features in seen.items()}


def _apart(
    found: Explained, seen: dict[str, tuple[Tensor, Tensor]], perceptual: dict[Backbone, LPIPS], batch_size: int
) -> Iterator[Measured]:
    """How alike every two images are to each encoder, and how far apart they are."""
    x, x_cf = found.x, found.x_cf
    for encoder, (features, features_cf) in seen.items():
        yield Measured("cosine", encoder, cosine(features[found.rows], features_cf))
    apart = distances(x, x_cf)
    for measure in ("l1_sum", "l1_5", "sparsity"):  # the others are columns of the explanations
        yield Measured(measure, None, apart[measure])
    for backbone, distance in perceptual.items():
        yield Measured("lpips", backbone, _batched(distance, batch_size, x, x_cf))


def _transitions(found: Explained, classifier: Classifier, batch_size: int) -> Iterator[Measured]:
    """COUT, exact and as the published script sums it."""
    source, target = (
        torch.tensor([classifier.classes.index(name) for name in names], device=found.x_cf.device)
        for names in (found.source, found.target)
    )
    batches = zip(*(tensor.split(batch_size) for tensor in (found.x, found.x_cf, source, target)), strict=True)
    parts = [cout(classifier, *batch) for batch in batches]
    yield Measured("cout", None, torch.cat([part.value for part in parts]))
    yield Measured("cout_reference", None, torch.cat([part.reference for part in parts]))


def _games(found: Explained, classifier: Classifier, batch_size: int) -> Iterator[Measured]:
    """Insertion and deletion of what the counterfactuals changed."""

    def area(game: Game, x: Tensor, x_cf: Tensor) -> Tensor:
        return area_under(curves(classifier, x, change_map(x, x_cf), game, side=PATCHES, steps=STEPS))

    for game in GAMES:
        yield Measured(game, "change", _batched(partial(area, game), batch_size, found.x, found.x_cf))


def _plausible(found: Explained, autoencoders: Autoencoders) -> Iterator[Measured]:
    """IM1 and IM2, an image at a time: each has its own two classes."""
    one, two = [], []
    for x_cf, source, target in zip(found.x_cf.split(1), found.source, found.target, strict=True):
        by_source, by_target, by_all = ((autoencoders.reconstruct(x_cf, name) + 1) / 2 for name in (source, target, None))
        one.append(im1((x_cf + 1) / 2, by_target, by_source))
        two.append(im2((x_cf + 1) / 2, by_target, by_all))
    yield Measured("im1", None, torch.cat(one))
    yield Measured("im2", None, torch.cat(two))


def _measures(
    run: Run, found: Explained, seen: dict[str, tuple[Tensor, Tensor]], perceptual: dict[Backbone, LPIPS], learned: Learned
) -> Iterator[Measured]:
    """Every measure that the configuration asks for."""
    if not found.rows:
        return
    config, batch_size = run.config.measures, run.config.batch_size
    yield from _apart(found, seen, perceptual, batch_size)
    if measures_cout(config, run.config.classifier):
        yield from _transitions(found, run.classifier(), batch_size)
    if learned.autoencoders is not None:
        yield from _plausible(found, autoencoders_for(learned.autoencoders, run.device))
    if config.insertion_deletion:
        yield from _games(found, run.classifier(), batch_size)


def _measurement_rows(found: Explained, measured: Iterator[Measured]) -> Columns:
    rows: Columns = {name: [] for name in (*KEYS, "measure", "encoder", "value")}
    for measure, encoder, values in measured:
        there = values.isfinite().cpu().nonzero()[:, 0].tolist()
        for name in KEYS:
            rows[name] += [found.keys[name][i] for i in there]
        rows["measure"] += [measure] * len(there)
        rows["encoder"] += [encoder] * len(there)
        rows["value"] += values.cpu()[there].tolist()
    return rows


def _feature_rows(found: Explained, seen: dict[str, tuple[Tensor, Tensor]]) -> Columns:
    rows: Columns = {name: [] for name in (*KEYS, "encoder", "vector")}
    for encoder, (features, features_cf) in seen.items():
        rows["image_id"] += found.image_ids + found.keys["image_id"]
        for name in KEYS[1:]:
            rows[name] += [None] * len(found.image_ids) + found.keys[name]
        rows["encoder"] += [encoder] * (len(features) + len(features_cf))
        rows["vector"] += [*features.numpy(), *features_cf.numpy()]
    return rows


def _pair_rows(found: Explained, perceptual: dict[Backbone, LPIPS], batch_size: int) -> Columns:
    """LPIPS of every two counterfactuals of one image that differ in nothing but their seed."""
    keys = list(zip(*(found.keys[name] for name in KEYS), strict=True))
    in_order = sorted(range(len(keys)), key=lambda i: keys[i])
    pairs = [pair for _, alike in groupby(in_order, key=lambda i: keys[i][:3]) for pair in combinations(alike, 2)]
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    rows: Columns = {name: [] for name in (*KEYS[:3], "seed_a", "seed_b", "encoder", "lpips")}
    for backbone, distance in perceptual.items() if pairs else ():
        for name in KEYS[:3]:
            rows[name] += [found.keys[name][i] for i in first]
        rows["seed_a"] += [found.keys["seed"][i] for i in first]
        rows["seed_b"] += [found.keys["seed"][i] for i in second]
        rows["encoder"] += [backbone] * len(pairs)
        rows["lpips"] += _batched(distance, batch_size, found.x_cf[first], found.x_cf[second]).double().tolist()
    return rows


@stage("measurements", also=("features", "pairs"))
@torch.no_grad()
def measure(run: Run, images: Shard, explained: Shard, learned: Learned) -> Rows:
    """Features, pairs and measurements of one shard."""
    found = read_explained(images, explained, run.device)
    perceptual = perceptual_for(run.config.measures, run.device)
    seen = _encoded(found, encoders_for(run), run.config.batch_size)
    return {
        "features": _feature_rows(found, seen),
        "pairs": _pair_rows(found, perceptual, run.config.batch_size),
        "measurements": _measurement_rows(found, _measures(run, found, seen, perceptual, learned)),
    }
