"""The stages of regions: every image explained again in each region, nothing outside it changed; and who takes no part in one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from skimage.segmentation import slic
from torch import Tensor
from torch.nn.functional import interpolate

from cfx.attributes.oracle import Oracle
from cfx.classifiers import TorchClassifier
from cfx.diffusion.first_step import FirstAnswers
from cfx.errors import UserError
from cfx.images import decode_png, encode_png
from cfx.saliency.maps import Saliency, saliency
from cfx.types import Classifier, Counterfactual
from tasks.config import AuditConfig, Region, SaliencyConfig
from tasks.cost import Cost
from tasks.data.region_masks import WHY, ImageFile, Missing, masks_of
from tasks.explainer import Explainer, Targets, images_on_rungs, null_images
from tasks.progress import expect
from tasks.run import Run
from tasks.shard_images import read_images
from tasks.stage import Rows, stage
from tasks.stages.explain import explainer_of, measured, targets_of
from tasks.stages.learn import Learned
from tasks.stages.saliency import maps_of
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import Shard, read_shard

SEGMENTS = 64  # that an image is cut into, about


class Where(NamedTuple):
    """One region of the images of a shard."""

    name: str
    inside: Tensor  # (N, 1, H, W) bool; nowhere in an image that takes no part
    absent: list[Missing | None]  # (N,) why an image takes no part


def check_regions(config: AuditConfig, classifier: Classifier) -> None:
    """Raises UserError for regions where nothing is drawn, or of saliency that the classifier cannot have."""
    if config.regions and config.prior is None:
        raise UserError("what lies inside a region is drawn, and there is no model that draws; set `prior`, or use `masks`")
    salient = [name for name, region in config.regions.items() if isinstance(region, Region) and region.is_salient]
    if salient and not isinstance(classifier, TorchClassifier):
        raise UserError(f"{salient[0]}: saliency looks inside a network, but the classifier is a black box; give masks")


@stage("region_explanations")
def explain_in_regions(run: Run, images: Shard, predicted: Shard, explained: Shard, learned: Learned) -> Rows:
    """Counterfactuals of one shard of images in every region: every seed, guided and null; what the oracle says of each.

    Each on the rung of the ladder on which the image's explanation ended that may change all of it. With more force, a method
    that finds nothing in a region draws what no image has, until it fools the classifier.
    """
    targets, source = targets_of(run, images, predicted, learned)
    oracle = run.oracle() if run.config.oracle is not None else None
    rows: dict[str, list[Any]] = {name: [] for name in (*FACTS["region_explanations"].schema.names, *_wide(oracle))}
    if not targets.image_ids:
        return rows
    places = {image_id: i for i, image_id in enumerate(read_shard(images, ["image_id"])["image_id"].to_pylist())}
    where = [places[image_id] for image_id in targets.image_ids]
    parts = [(one, [i for i, place in enumerate(where) if one.absent[place] is None]) for one in regions_of(run, images)]
    expect(2 * len(run.config.seeds) * sum(len(taken) for _, taken in parts))
    explainer, rungs = explainer_of(run, learned), _rungs(explained)
    for one, taken in parts:
        some = Targets([targets.image_ids[i] for i in taken], targets.x[taken], targets.target[taken])
        inside = one.inside[[where[i] for i in taken]].to(some.x)
        for arm in _arms(run, explainer, some, source[taken], inside, rungs) if taken else ():
            columns = arm | _place_of(one.name, inside) | _seen(run, oracle, some.x, arm["png"])
            for name, values in rows.items():
                values += columns[name]
    return rows


Rungs = dict[tuple[str, int], int]  # by image and seed


def _rungs(explained: Shard) -> Rungs:
    rows = read_shard(explained, ["image_id", "seed", "arm", "attempt"]).to_pylist()
    return {(row["image_id"], row["seed"]): max(0, row["attempt"]) for row in rows if row["arm"] == "guided"}


def _arms(
    run: Run, explainer: Explainer, targets: Targets, source: Tensor, inside: Tensor, rungs: Rungs
) -> Iterator[dict[str, list[Any]]]:
    """The rows of one region, columns by name: of every seed guided, then null."""
    for seed in run.config.seeds:
        attempt, starts = torch.tensor([rungs[image_id, seed] for image_id in targets.image_ids]), FirstAnswers()
        for arm, drawn in (("guided", images_on_rungs), ("null", null_images)):
            x_cf, mask, costs = drawn(explainer, targets, attempt, seed, starts, inside)
            yield (
                _keys(run, targets, arm, costs)
                | {"seed": [seed] * len(costs), "attempt": attempt.tolist()}
                | measured(run.classifier(), run.judge(), targets, source, Counterfactual(x_cf, mask))
            )


def _keys(run: Run, targets: Targets, arm: str, costs: Sequence[Cost]) -> dict[str, list[Any]]:
    spent = {"nfe_forward": [c.nfe_forward for c in costs], "nfe_backward": [c.nfe_backward for c in costs]}
    constants = {"method": run.config.ladder[0].method, "arm": arm, "device": run.device}
    columns: dict[str, list[Any]] = {name: [value] * len(costs) for name, value in constants.items()}
    return columns | spent | {"image_id": targets.image_ids, "seconds": [c.seconds for c in costs]}


def _place_of(name: str, inside: Tensor) -> dict[str, list[Any]]:
    pngs = encode_png((inside * 2 - 1).expand(-1, 3, -1, -1))
    return {"region": [name] * len(inside), "region_fraction": inside.flatten(1).mean(1).tolist(), "region_png": pngs}


def _wide(oracle: Oracle | None) -> list[str]:
    return [] if oracle is None else [f"{letter}_{name}" for name in oracle.attributes for letter in "pqd"]


def _seen(run: Run, oracle: Oracle | None, x: Tensor, pngs: Sequence[bytes]) -> dict[str, list[float]]:
    """The oracle's columns, of the 8-bit images that people see."""
    if oracle is None:
        return {}
    before, after = run.batched(oracle, x), run.batched(oracle, decode_png(pngs))
    columns: dict[str, list[float]] = {}
    for i, name in enumerate(oracle.attributes):
        values = {"p": before[:, i], "q": after[:, i], "d": (after - before)[:, i]}
        columns |= {f"{letter}_{name}": column.tolist() for letter, column in values.items()}
    return columns


@stage("rejected", suffix="-regions")
def list_absent(run: Run, images: Shard) -> Rows:
    """The images of a shard that take no part in a region, a row a region."""
    table = read_shard(images, ["path", "label", "split"]).to_pylist()
    rows: dict[str, list[Any]] = {name: [] for name in FACTS["rejected"].schema.names}
    for one in regions_of(run, images):
        for row, why in zip(table, one.absent, strict=True):
            if why is not None:
                said = {"stage": "regions", "reason": why, "error": f"region {one.name!r}: {WHY[why]}"}
                for name, values in rows.items():
                    values.append((row | said)[name])
    return rows


def regions_of(run: Run, images: Shard) -> list[Where]:
    """Every region of the images of a shard."""
    config = run.config
    files = [ImageFile(*row.values()) for row in read_shard(images, ["path", "width", "height"]).to_pylist()]
    x = read_images(images).x
    size = x.shape[-2], x.shape[-1]
    by_file = {one.name: [one.of(file, size) for file in files] for one in masks_of(config)}
    salient = None
    found: dict[str, Where] = {}
    for name, region in sorted(config.regions.items(), key=lambda one: isinstance(one[1], Region) and bool(one[1].outside)):
        if name in by_file:
            nowhere = torch.zeros(1, *size, dtype=torch.bool)
            absent = [None if isinstance(mask, Tensor) else mask for mask in by_file[name]]
            found[name] = Where(name, torch.stack([m if isinstance(m, Tensor) else nowhere for m in by_file[name]]), absent)
        elif isinstance(region, Region) and region.outside is not None:
            other = found[region.outside]
            inside = ~other.inside & torch.tensor([why is None for why in other.absent]).view(-1, 1, 1, 1)
            found[name] = Where(name, inside, other.absent)
        elif isinstance(region, Region):
            salient = _saliency(run, x) if salient is None else salient
            share = region.saliency or region.segment or 0.0
            inside = top_share(salient, share) if region.saliency else top_segments(x, salient, share)
            found[name] = Where(name, inside, [None if one.any() else "no saliency" for one in inside])
    return [found[name] for name in config.regions]


def _saliency(run: Run, x: Tensor) -> Tensor:
    """(N, 1, H, W): the evidence for the class that each image is predicted as, by the audit's first map."""
    classifier = run.classifier()
    assert isinstance(classifier, TorchClassifier)
    alone = copy.deepcopy(classifier)  # maps hook into it, while other shards query it
    size = x.shape[-2], x.shape[-1]
    settings: Saliency = maps_of(run.config.saliency or SaliencyConfig(), alone, size)[0]
    goal = run.probabilities(x).argmax(1)
    pairs = zip(x.split(run.config.batch_size), goal.split(run.config.batch_size), strict=True)
    found = torch.cat([saliency(alone, a.to(run.device), b.to(run.device), settings).cpu() for a, b in pairs])
    return interpolate(found[:, None], size=size, mode="bilinear")


def top_share(values: Tensor, share: float) -> Tensor:
    """Where values (N, 1, H, W) are highest: a share of the pixels, those that tie with the last one too; bool.

    Examples:
        >>> top_share(torch.tensor([[4.0, 3.0], [2.0, 0.0]]).view(1, 1, 2, 2), 0.5).flatten().tolist()
        [True, True, False, False]
    """
    count = max(1, round(share * values[0].numel()))
    last = values.flatten(1).topk(count, dim=1).values[:, -1].view(-1, 1, 1, 1)
    return (values >= last) & (values > values.amin((1, 2, 3), keepdim=True))


def top_segments(x: Tensor, values: Tensor, share: float) -> Tensor:
    """The segments of images x (N, 3, H, W) in [-1, 1] in which values (N, 1, H, W) are highest on average, until they cover the
    share of the pixels; (N, 1, H, W) bool. None of an image whose values are all the same."""
    found = []
    for image, value in zip(x, values[:, 0].numpy(), strict=True):
        segments = slic(((image + 1) / 2).permute(1, 2, 0).numpy(), n_segments=SEGMENTS, start_label=0)
        counts = np.bincount(segments.ravel())
        means = np.bincount(segments.ravel(), value.ravel()) / np.maximum(counts, 1)
        order = np.argsort(-means, kind="stable")
        taken = order[: 1 + int(np.searchsorted(np.cumsum(counts[order]), share * segments.size))]
        found.append(torch.from_numpy(np.isin(segments, taken)) & bool(np.ptp(value)))
    return torch.stack(found)[:, None]
