"""What an audit will cost, before it starts: counted from its settings, at the speed of one image tried on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from cfx.errors import UserError
from cfx.images import height_and_width
from tasks.data import ingest as data
from tasks.fixed_batches import size_of_batches
from tasks.run import Run
from tasks.stages.explain import Cost, Explainer, Targets, explain_images, null_images


@dataclass(frozen=True)
class Plan:
    """The explanation stage of an audit; lowest if every image flips on the first rung, highest if none ever does."""

    images: int
    shards: int
    evaluations: tuple[int, int]  # of the UNet, lowest and highest
    hours: tuple[float, float]
    workers: int
    device: str


def plan(run: Run, workers: int) -> Plan:
    """Images, shards, UNet evaluations and hours. Raises UserError where an image cannot be tried.

    The trial draws from noise, which costs what a photograph does; predictions, attributes and measures come on top.
    """
    config, classifier = run.config, run.classifier()
    if not classifier.differentiable:
        raise UserError("--plan: a trial would spend queries of the black box; its own ledger tells what the last audit took")
    if run.prior is None:
        raise UserError("--plan: without a prior nothing is drawn, which is what takes the time")
    if not (run.prior / "scheduler" / "scheduler_config.json").is_file():
        raise UserError(f"--plan: the prior in {run.prior} is yet to be trained, and its speed is what would be measured")
    images = data.check(config.data).n
    noise = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, *height_and_width(config.data.size), generator=noise).clamp(-1, 1).to(run.device)
    n = size_of_batches(x, config.batch_size)  # a full batch, whose every image costs what an image of the audit does
    trial = Targets([f"trial {i}" for i in range(n)], x.expand(n, -1, -1, -1), torch.ones(n, dtype=torch.long, device=run.device))
    explainer = Explainer(run.denoiser(), classifier, config.ladder, config.batch_size)

    def tried(rung: int) -> tuple[Cost, Cost]:
        guided = explain_images(replace(explainer, ladder=config.ladder[rung : rung + 1]), trial, 0)[1][0]
        return guided, null_images(explainer, trial, torch.full((n,), rung), 0)[2][0]

    tried(0)  # the first time is slower
    rungs = [tried(rung) for rung in range(len(config.ladder))]
    least, most = [*rungs[0]], [*(guided for guided, _ in rungs), rungs[-1][1]]
    count, each = images * len(config.seeds), tuple(sum(cost.nfe_forward for cost in costs) for costs in (least, most))
    short, long = sorted(count * sum(cost.seconds for cost in costs) / workers / 3600 for costs in (least, most))
    shards = math.ceil(images / config.shard_size)
    return Plan(images, shards, (count * each[0], count * each[1]), (short, long), workers, run.device)
