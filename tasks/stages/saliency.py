"""Cross-examination: does what a counterfactual changed lie where saliency says the evidence is, and where the truth is known?"""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cfx.classifiers import TorchClassifier
from cfx.errors import UserError
from cfx.images import decode_png, encode_png
from cfx.metrics.agreement import against_truth, change_map, cross_examined
from cfx.saliency.maps import Saliency, check_map, default_map, maps_for, saliency
from cfx.types import Classifier
from tasks.config import SaliencyConfig
from tasks.regions import names_in, regions_in
from tasks.run import Run
from tasks.shard_images import read_images
from tasks.stage import Rows, stage
from warehouse.facts.shards import Shard, read_shard


def maps_of(config: SaliencyConfig, classifier: Classifier, size: tuple[int, int]) -> tuple[Saliency, ...]:
    """The maps to make of images of (height, width). Raises UserError for a map that the classifier cannot have."""
    if not isinstance(classifier, TorchClassifier):
        if config.maps:
            raise UserError(f"map {config.maps[0].map!r} looks inside a network, but the classifier is a black box; leave it out")
        return ()
    if not config.maps:
        return (default_map(classifier, size),)
    possible = maps_for(classifier)
    for wanted in config.maps:
        if wanted.map not in possible:
            raise UserError(f"this classifier cannot have map {wanted.map!r}; it can have {', '.join(possible)}")
        check_map(classifier, wanted, size)
    return config.maps


def check_saliency(config: SaliencyConfig, classifier: Classifier, size: tuple[int, int]) -> None:
    """Raises UserError if a map cannot be made, or if there is no folder of regions or nothing in it."""
    maps_of(config, classifier, size)
    if config.regions is not None and not names_in(config.regions):
        raise UserError(f"regions: {config.regions} holds no folder of an attribute; it should hold `<attribute>/<file>.png`")


@stage("measurements", suffix="-saliency", also=("saliency",))
def cross_examine(run: Run, images: Shard, explained: Shard) -> Rows:
    """The maps of the explained images of a shard, and how guided counterfactuals agree with them and with known regions.

    A map shows the evidence for the class predicted on the image. Everything is read from the 8-bit images that people see.
    """
    columns = ["image_id", "method", "arm", "seed", "source", "png", "mask_png"]
    rows = [row for row in read_shard(explained, columns).to_pylist() if row["arm"] == "guided"]
    source = {row["image_id"]: run.classes.index(row["source"]) for row in rows}
    subjects = _subjects(images, source)
    maps = _maps(run, subjects.x, torch.tensor([source[name] for name in subjects.ids], dtype=torch.long))
    measured: dict[str, list[Any]] = {name: [] for name in ("image_id", "method", "arm", "seed", "measure", "encoder", "value")}
    config = run.config.saliency
    regions = regions_in(config.regions if config else None, subjects.paths, (subjects.x.shape[-2], subjects.x.shape[-1]))
    position = {name: place for place, name in enumerate(subjects.ids)}
    for start in range(0, len(rows), run.config.batch_size):
        batch = rows[start : start + run.config.batch_size]
        chosen = [position[row["image_id"]] for row in batch]
        _add(measured, batch, _examined(batch, subjects.x[chosen], {name: found[chosen] for name, found in maps.items()}))
        for attribute, (known, region) in regions.items():
            graded = [(row, place) for row, place in zip(batch, chosen, strict=True) if known[place]]
            if graded:
                some, places = [row for row, _ in graded], [place for _, place in graded]
                found = {name: values[places] for name, values in maps.items()}
                _add(measured, some, _graded(some, Region(attribute, region[places]), subjects.x[places], found))
    return {"saliency": _shown(subjects.ids, maps, subjects.x), "measurements": measured}


class Subjects(NamedTuple):
    """The explained images of a shard, in its order."""

    ids: list[str]
    paths: list[str]
    x: Tensor  # (N, 3, H, W) in [-1, 1]


class Region(NamedTuple):
    """Where an attribute shows."""

    attribute: str
    where: Tensor  # (N, H, W) bool


def _subjects(images: Shard, explained: Container[str]) -> Subjects:
    ids, x = read_images(images)
    paths = read_shard(images, ["path"])["path"].to_pylist()
    wanted = [i for i, name in enumerate(ids) if name in explained]
    return Subjects([ids[i] for i in wanted], [paths[i] for i in wanted], x[wanted])


def _maps(run: Run, x: Tensor, goal: Tensor) -> dict[str, Tensor]:
    """By name, the maps (N, h, w) of the evidence for the classes (N,) on x."""
    classifier = run.classifier()
    if not isinstance(classifier, TorchClassifier) or run.config.saliency is None or not len(x):
        return {}
    alone = copy.deepcopy(classifier)  # maps hook into it, while other shards query it
    wanted = maps_of(run.config.saliency, alone, (x.shape[-2], x.shape[-1]))
    return {settings.map: _in_batches(run, alone, x, goal, settings) for settings in wanted}


def _in_batches(run: Run, classifier: TorchClassifier, x: Tensor, goal: Tensor, settings: Saliency) -> Tensor:
    pairs = zip(x.split(run.config.batch_size), goal.split(run.config.batch_size), strict=True)
    return torch.cat([saliency(classifier, a.to(run.device), b.to(run.device), settings).cpu() for a, b in pairs])


def _shown(ids: Sequence[str], maps: dict[str, Tensor], x: Tensor) -> dict[str, list[Any]]:
    """Rows of `saliency`: what speaks for the class from black (nothing, or against it) to white (the image's most)."""
    rows: dict[str, list[Any]] = {"image_id": [], "map": [], "png": []}
    for name, found in maps.items():
        share = found.clamp(min=0) / found.amax((1, 2), keepdim=True).clamp(min=torch.finfo(found.dtype).tiny)
        shown = interpolate(share[:, None] * 2 - 1, size=x.shape[-2:], mode="nearest").expand(-1, 3, -1, -1)
        rows["image_id"] += ids
        rows["map"] += [name] * len(ids)
        rows["png"] += encode_png(shown)
    return rows


Measured = dict[tuple[str, str | None], Tensor]  # (measure, encoder) -> (B,)


def _examined(rows: Sequence[dict[str, Any]], x: Tensor, maps: dict[str, Tensor]) -> Measured:
    """What was changed against every map. What chance scores is the same for all maps."""
    x_cf = decode_png([row["png"] for row in rows])
    found: Measured = {}
    for name, values in maps.items():
        measures = cross_examined(values, x, x_cf)
        found |= {(measure, None if measure.endswith("by_chance") else name): value for measure, value in measures.items()}
    return found


def _graded(rows: Sequence[dict[str, Any]], region: Region, x: Tensor, maps: dict[str, Tensor]) -> Measured:
    """Every map, what was changed, and the mask against where the attribute shows."""
    evidence = maps | {"change": change_map(x, decode_png([row["png"] for row in rows]))}
    masks = [row["mask_png"] for row in rows if row["mask_png"] is not None]
    if len(masks) == len(rows):
        evidence["mask"] = decode_png(masks)[:, 0]
    found: Measured = {}
    for name, values in evidence.items():
        for measure, value in against_truth(values, region.where).items():
            found[f"{measure}:{region.attribute}", None if measure.endswith("by_chance") else name] = value
    return found


def _add(measured: dict[str, list[Any]], rows: Sequence[dict[str, Any]], found: Measured) -> None:
    for (measure, encoder), values in found.items():
        for row, value in zip(rows, values.tolist(), strict=True):
            for name in ("image_id", "method", "arm", "seed"):
                measured[name].append(row[name])
            measured["measure"].append(measure)
            measured["encoder"].append(encoder)
            measured["value"].append(value)
