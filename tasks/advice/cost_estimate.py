"""What an audit will cost, before it starts: counted from its settings, at the speed of one picture tried on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from cfx.classifiers import AnyClassifier
from cfx.errors import UserError
from cfx.images import height_and_width
from tasks.data import ingest as data
from tasks.stages.explain import Cost, Ladder, explain_images, null_images
from tasks.stages.predict import classifier_for
from tasks.stages.prior import denoiser_for


@dataclass(frozen=True)
class Plan:
    """The explanation stage of an audit; lowest if every picture flips on the first rung, highest if none ever does."""

    images: int
    shards: int
    evaluations: tuple[int, int]  # of the UNet, lowest and highest
    hours: tuple[float, float]
    workers: int
    device: str


def plan(
    config: data.DataConfig,
    classifier_config: AnyClassifier,
    prior: Path,
    ladder: Ladder,
    seeds: tuple[int, ...],
    shard_size: int,
    workers: int,
    device: str,
) -> Plan:
    """Images, shards, UNet evaluations and hours. Raises UserError where a picture cannot be tried.

    The trial draws from noise, which costs what a photograph does; predictions, attributes and measures come on top.
    """
    classifier = classifier_for(classifier_config, device)
    if not classifier.differentiable:
        raise UserError("--plan: a trial would spend queries of the black box; its own ledger tells what the last audit took")
    if not (prior / "scheduler" / "scheduler_config.json").is_file():
        raise UserError(f"--plan: the prior in {prior} is yet to be trained, and its speed is what would be measured")
    images = data.check(config).n
    denoiser = denoiser_for(prior, device)
    x = torch.randn(1, 3, *height_and_width(config.size), generator=torch.Generator().manual_seed(0)).clamp(-1, 1).to(device)
    target = torch.tensor([1], device=device)

    def tried(rung: int) -> tuple[Cost, Cost]:
        guided = explain_images(denoiser, classifier, x, target, ladder[rung : rung + 1], ["trial"], 0, 1)[1][0]
        return guided, null_images(denoiser, classifier, x, target, ladder, torch.tensor([rung]), ["trial"], 0, 1)[2][0]

    tried(0)  # the first time is slower
    rungs = [tried(rung) for rung in range(len(ladder))]
    least, most = [*rungs[0]], [*(guided for guided, _ in rungs), rungs[-1][1]]
    count, each = images * len(seeds), tuple(sum(cost.nfe_forward for cost in costs) for costs in (least, most))
    hours = tuple(count * sum(cost.seconds for cost in costs) / workers / 3600 for costs in (least, most))
    return Plan(images, math.ceil(images / shard_size), (count * each[0], count * each[1]), (hours[0], hours[1]), workers, device)
