"""Cross-examination: does what a counterfactual changed lie where saliency says the evidence is, and where the truth is known?"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate

from cfx.classifiers import AnyClassifier, TorchClassifier
from cfx.errors import UserError
from cfx.images import decode_png, encode_png, read_picture
from cfx.metrics.agreement import against_truth, change_map, cross_examined
from cfx.networks.hit import HiT
from cfx.saliency.maps import Saliency, maps_for, saliency
from cfx.types import Classifier, Config
from tasks.stages.predict import classifier_for, read_batch
from warehouse.facts.shards import Shard, find_shard, read_shard, write_shard

MAX_PIXELS = 50_000_000  # of a picture of a region


class SaliencyConfig(Config):
    """Saliency of the classifier under audit, to hold the counterfactuals against. A black box has none."""

    maps: tuple[Saliency, ...] = Field((), description="default: a HiT's own account, Grad-CAM for other torch classifiers")
    regions: Path | None = Field(
        None,
        description="folder of what is known of where attributes show: `<attribute>/<file>.png`, black where it does not, with "
        "the path of the picture; maps and counterfactuals are graded against it",
    )


def maps_of(config: SaliencyConfig, classifier: Classifier) -> tuple[Saliency, ...]:
    """The maps to make. Raises UserError for a map that the classifier cannot have."""
    if not isinstance(classifier, TorchClassifier):
        if config.maps:
            raise UserError(f"map {config.maps[0].map!r} looks inside a network, but the classifier is a black box; leave it out")
        return ()
    if not config.maps:
        return (Saliency(map="hit" if isinstance(classifier.network.module, HiT) else "grad_cam"),)
    possible = maps_for(classifier)
    for asked in config.maps:
        if asked.map not in possible:
            raise UserError(f"this classifier cannot have map {asked.map!r}; it can have {', '.join(possible)}")
    return config.maps


def check_saliency(config: SaliencyConfig, classifier: Classifier) -> None:
    """Raises UserError if a map cannot be made, or if there is no folder of regions or nothing in it."""
    maps_of(config, classifier)
    if config.regions is not None and not _attributes(config.regions):
        raise UserError(f"regions: {config.regions} holds no folder of an attribute; it should hold `<attribute>/<file>.png`")


def cross_examine(
    root: Path,
    run_id: str,
    images: Shard,
    explained: Shard,
    classifier_config: AnyClassifier,
    config: SaliencyConfig,
    batch_size: int,
    device: str,
) -> Shard:
    """The maps of the explained images of a shard, and how guided counterfactuals agree with them and with known regions.

    A map shows the evidence for the class predicted on the image. Everything is read from the 8-bit pictures that people see.
    """
    done = find_shard(root, "measurements", run_id, f"{explained.key}-saliency")
    if done is not None:
        return done
    classifier: Classifier = classifier_for(classifier_config, device)
    if isinstance(classifier, TorchClassifier):
        classifier = copy.deepcopy(classifier)  # maps hook into it, while other shards ask it
    columns = ["image_id", "method", "arm", "seed", "source", "png", "mask_png"]
    rows = [row for row in read_shard(explained, columns).to_pylist() if row["arm"] == "guided"]
    table = read_shard(images, ["image_id", "path"]).to_pylist()
    row_of = {row["image_id"]: i for i, row in enumerate(table)}
    source = {row["image_id"]: classifier.classes.index(row["source"]) for row in rows}
    wanted = sorted(row_of[image_id] for image_id in source)
    position = {table[i]["image_id"]: place for place, i in enumerate(wanted)}
    x = read_batch(images)[wanted]
    goal = torch.tensor([source[table[i]["image_id"]] for i in wanted], dtype=torch.long)
    maps: dict[str, Tensor] = {
        asked.map: _in_batches(classifier, x, goal, asked, batch_size, device)
        for asked in (maps_of(config, classifier) if wanted else ())
    }
    write_shard(root, "saliency", run_id, explained.key, _pictures([table[i]["image_id"] for i in wanted], maps, x))
    regions = _regions(config.regions, [table[i]["path"] for i in wanted], (x.shape[-2], x.shape[-1]))
    measured: dict[str, list[Any]] = {name: [] for name in ("image_id", "method", "arm", "seed", "measure", "encoder", "value")}
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        chosen = [position[row["image_id"]] for row in batch]
        _add(measured, batch, _examined(batch, x[chosen], {name: found[chosen] for name, found in maps.items()}))
        for attribute, (known, region) in regions.items():
            told = [(row, place) for row, place in zip(batch, chosen, strict=True) if known[place]]
            if told:
                some, places = [row for row, _ in told], [place for _, place in told]
                found = {name: values[places] for name, values in maps.items()}
                _add(measured, some, _graded(some, x[places], found, region[places], attribute))
    return write_shard(root, "measurements", run_id, f"{explained.key}-saliency", measured)


def _in_batches(classifier: Classifier, x: Tensor, goal: Tensor, asked: Saliency, batch_size: int, device: str) -> Tensor:
    assert isinstance(classifier, TorchClassifier)
    pairs = zip(x.split(batch_size), goal.split(batch_size), strict=True)
    return torch.cat([saliency(classifier, a.to(device), b.to(device), asked).cpu() for a, b in pairs])


def _pictures(ids: Sequence[str], maps: dict[str, Tensor], x: Tensor) -> dict[str, list[Any]]:
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


def _graded(rows: Sequence[dict[str, Any]], x: Tensor, maps: dict[str, Tensor], region: Tensor, attribute: str) -> Measured:
    """Every map, what was changed, and the mask against where the attribute shows."""
    evidence = maps | {"change": change_map(x, decode_png([row["png"] for row in rows]))}
    masks = [row["mask_png"] for row in rows if row["mask_png"] is not None]
    if len(masks) == len(rows):
        evidence["mask"] = decode_png(masks)[:, 0]
    found: Measured = {}
    for name, values in evidence.items():
        for measure, value in against_truth(values, region).items():
            found[f"{measure}:{attribute}", None if measure.endswith("by_chance") else name] = value
    return found


def _add(measured: dict[str, list[Any]], rows: Sequence[dict[str, Any]], found: Measured) -> None:
    for (measure, encoder), values in found.items():
        for row, value in zip(rows, values.tolist(), strict=True):
            for name in ("image_id", "method", "arm", "seed"):
                measured[name].append(row[name])
            measured["measure"].append(measure)
            measured["encoder"].append(encoder)
            measured["value"].append(value)


def _attributes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*") if path.is_dir())


def _regions(folder: Path | None, files: Sequence[str], size: tuple[int, int]) -> dict[str, tuple[list[bool], Tensor]]:
    """Per attribute: of which files the region is known, and where it shows, (N, *size) bool."""
    found = {}
    for attribute in _attributes(folder) if folder is not None and files else ():
        paths = [(folder / attribute / file).with_suffix(".png") for file in files] if folder is not None else []
        known = [path.is_file() for path in paths]
        shown = torch.zeros(len(files), *size, dtype=torch.bool)
        for i, path in enumerate(paths):
            if known[i]:
                picture = read_picture(path.read_bytes(), size, MAX_PIXELS, 1)
                shown[i] = decode_png([picture.png])[0].amax(0) > -1
        found[attribute] = known, shown
    return found
