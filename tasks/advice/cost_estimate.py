"""What an audit costs: counted from its settings before it starts, and at the speed of a few images tried on this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from cfx.classifiers import ClassifierConfig
from cfx.errors import UserError
from cfx.images import height_and_width
from tasks.config import AuditConfig
from tasks.cost import Cost
from tasks.data import ingest as data
from tasks.explainer import Explainer, Targets, explain_images, null_images
from tasks.fixed_batches import size_of_batches
from tasks.look import SUBJECTS, queries_of
from tasks.run import Run
from tasks.sample import LOOKED_AT
from tasks.stages.editor import NULL_PASSES, PASSES
from tasks.stages.encoders import measures_cout
from tasks.stages.interventions import attributes_to_edit, editor_of

COUT = 52  # queries an explanation; insertion and deletion: GAMES
GAMES = 36
MAPPED = 4  # passes that the maps of one image take, about
PIXELS = 64 * 64  # of an image whose properties, PNG and maps take these seconds
PROPERTIES, CODED, MAPS = 0.005, 0.003, 0.004
EXPLAINED, COMPARED, REPORTED = 2.5, 0.6, 5.0  # seconds: how much is explained of a class, sets compared, gate and report
LARGE = 48  # images that a network is shown to see how fast it is


@dataclass(frozen=True)
class Work:
    """What one stage has to do. seconds: what neither UNet nor classifier takes."""

    stage: str
    images: int  # as people are shown them: an image that is edited in nine attributes counts nine times
    pieces: int  # that can be worked on at a time
    evaluations: int = 0  # of the UNet; 0 where only one that was tried tells
    queries: int = 0  # of classifier, judge and oracle, in images
    seconds: float = 0.0


class Spent(NamedTuple):
    """What an image costs on average: UNet evaluations and seconds."""

    nfe_forward: float
    seconds: float


@dataclass(frozen=True)
class Plan:
    """A whole audit; lowest if every image flips on the first rung, highest if none ever does."""

    images: int
    shards: int
    evaluations: tuple[int, int]  # of the UNet for explanations and their nulls, lowest and highest
    edits: int  # images that are edited, each of them once an attribute
    edit_evaluations: int  # of the UNet for these and their shams; 0 for edits by words
    queries: int  # images that classifier, judge and oracle are shown: probes, transplants, measures, edits
    hours: tuple[float, float]  # of all of it
    workers: int
    device: str


def works(run: Run) -> list[Work]:
    """Every stage of a run in its order, counted from its settings."""
    config = run.config
    n = run.understood.images if run.understood is not None else data.check(config.data).n
    shards, size = math.ceil(n / config.shard_size), height_and_width(config.data.size)
    larger = size[0] * size[1] / PIXELS
    explained = n * len(config.seeds)
    found = [
        Work("images", n, 1, seconds=n * CODED * larger),
        Work("predictions", n, shards, queries=n, seconds=n * CODED * larger),
        Work("properties", n, shards, seconds=n * PROPERTIES * larger),
    ]
    if run.prior is not None:
        found.append(Work("explanations", explained, shards))
        if config.regions:
            found.append(Work("region_explanations", explained * len(config.regions), shards))
        if config.oracle is not None:
            found.append(Work("attributes", n, shards, queries=n + 2 * explained, seconds=2 * explained * CODED * larger))
        if config.saliency is not None:
            mapped = MAPPED * explained if isinstance(config.classifier, ClassifierConfig) else 0
            found.append(Work("saliency", n, shards, queries=mapped, seconds=explained * MAPS * larger))
        each = COUT * measures_cout(config.measures, config.classifier) + GAMES * config.measures.insertion_deletion
        found.append(Work("measurements", n, shards, queries=each * explained, seconds=explained * CODED * larger))
        found.append(Work("set_metrics", n, 1, seconds=COMPARED))
    sample, subjects = min(n, LOOKED_AT), min(SUBJECTS, 1 if len(run.classes) == 2 else len(run.classes))
    beyond = PROPERTIES * 2 * sample * larger + EXPLAINED * subjects
    asked = queries_of(run, sample, subjects)
    found.append(Work("explained", asked, 1, queries=asked, seconds=beyond))
    if (edited := _edited(run, n)) is not None:
        attributes, images = edited
        pieces = attributes * math.ceil(images / config.shard_size)
        steps = 2 * config.interventions.tau if config.interventions.named is None else 0
        found.append(Work("edits", attributes * images, pieces, evaluations=attributes * images * steps))
        judges = 2 if isinstance(config.judge, ClassifierConfig) else 1
        found.append(Work("effects", attributes * images, pieces, queries=4 * judges * attributes * images))
    return [*found, Work("judging", n, 1, seconds=REPORTED)]


def _edited(run: Run, n: int) -> tuple[int, int] | None:
    """How many attributes are edited at most, each on how many images; None where none is."""
    config = run.config
    if config.oracle is None or not config.interventions.images or (run.prior is None and config.interventions.named is None):
        return None
    ranked = [name for name in run.oracle().attributes if name != config.target_attribute]
    return min(len(ranked), attributes_to_edit(run)), min(n, config.interventions.images)


def pass_seconds(run: Run, workers: int = 1) -> float:
    """Seconds that classifier and oracle take an image, where each is in this process; 0 where neither is. `workers` of them at a
    time, of which each image's share is told."""
    networks: list[Callable[[Tensor], Tensor]] = []
    if isinstance(run.config.classifier, ClassifierConfig):
        networks.append(run.classifier())
    if run.config.oracle is not None:
        networks.append(run.oracle())
    if not networks:
        return 0.0
    x = _noise(run).expand(size_of_batches(_noise(run), LARGE), -1, -1, -1).to(run.device)

    def passed() -> int:
        with torch.no_grad():
            for network in networks:
                network(x)
        return len(x) * len(networks)

    passed()  # the first time is slower
    return _seconds_each(passed, workers)


def plan(run: Run, workers: int) -> Plan:
    """Images, UNet evaluations, queries and hours of an audit. Raises UserError where an image cannot be tried.

    The trials draw from noise, which costs what a photograph does, and on as many threads as the audit will: two of them are not
    twice as fast as one where they share a core, or where others are at work.
    """
    config, classifier = run.config, run.classifier()
    if not classifier.differentiable:
        raise UserError("--plan: a trial would spend queries of the black box; its own ledger tells what the last audit took")
    if run.prior is None:
        raise UserError("--plan: without a prior nothing is drawn, which is what takes the time")
    if (
        config.prior is not None
        and config.prior.train is not None
        and not (run.prior / "scheduler" / "scheduler_config.json").is_file()
    ):
        raise UserError(f"--plan: the prior in {run.prior} is yet to be trained, and its speed is what would be measured")
    x = _noise(run).to(run.device)
    n = size_of_batches(x, config.batch_size)  # a full batch, whose every image costs what an image of the audit does
    trial = Targets([f"trial {i}" for i in range(n)], x.expand(n, -1, -1, -1), torch.ones(n, dtype=torch.long, device=run.device))
    explainer = Explainer(run.denoiser(), classifier, config.ladder, config.batch_size)

    def tried(rung: int) -> tuple[Cost, Cost]:
        """Guided and null on one rung: evaluations, and seconds, of one image."""
        alone, spent = replace(explainer, ladder=config.ladder[rung : rung + 1]), list[Cost]()

        def guided() -> int:
            spent.append(explain_images(alone, trial, 0)[1][0])
            return n

        def null() -> int:
            spent.append(null_images(explainer, trial, torch.full((n,), rung), 0)[2][0])
            return n

        timed = [(_seconds_each(part, workers), spent[-1]) for part in (guided, null)]
        first, second = (replace(cost, seconds=seconds) for seconds, cost in timed)
        return first, second

    tried(0)  # the first time is slower
    rungs = [tried(rung) for rung in range(len(config.ladder))]
    inside = len(config.regions)  # one rung, or all of them; in each region the last one of these; one null each
    paths = [[*rungs[0] * (1 + inside)], [*(guided for guided, _ in rungs), rungs[-1][1], *rungs[-1] * inside]]
    counted = {work.stage: work for work in works(run)}
    count = counted["explanations"].images
    each_way = [_total(costs) for costs in paths]
    if config.editor is not None:
        each_way = _with_editor(config, count, each_way, rungs[0][1])
    evaluations = sorted(round(count * cost.nfe_forward) for cost in each_way)
    explaining = sorted(count * cost.seconds for cost in each_way)
    edits = counted.get("edits")
    each = pass_seconds(run, workers)
    rest = sum((work.queries * each * (1 if work.pieces > 1 else workers) + _alone(work, workers)) for work in counted.values())
    if edits is not None:
        rest += edits.images * _edit_seconds(run, trial, workers)
    return Plan(
        images=count // len(config.seeds),
        shards=counted["explanations"].pieces,
        evaluations=(evaluations[0], evaluations[1]),
        edits=0 if edits is None else edits.images,
        edit_evaluations=0 if edits is None else edits.evaluations,
        queries=sum(work.queries for work in counted.values()),
        hours=((explaining[0] + rest) / 3600, (explaining[1] + rest) / 3600),
        workers=workers,
        device=run.device,
    )


def _with_editor(config: AuditConfig, count: int, paths: Sequence[Spent], null: Cost) -> list[Spent]:
    """The mean cost of an image where an editor proposes for all but its examples: every proposal is accepted, or none is.

    Training passes each example of a batch forward, back for twice that, and through the prior once.
    """
    training = config.editor
    assert training is not None
    first = min(1.0, math.ceil(training.examples / config.shard_size) * config.shard_size / max(1, count))
    evaluation = null.seconds / max(1, null.nfe_forward)
    learning = 4 * training.steps * training.batch / max(1, count) if first < 1 else 0.0
    lowest, highest = paths
    accepted, failed = PASSES + NULL_PASSES, PASSES + highest.nfe_forward
    rest = [Spent(accepted, accepted * evaluation), Spent(failed, PASSES * evaluation + highest.seconds)]
    return [
        Spent(
            first * alone.nfe_forward + (1 - first) * other.nfe_forward,
            first * alone.seconds + (1 - first) * other.seconds + learning * evaluation,
        )
        for alone, other in zip((lowest, highest), rest, strict=True)
    ]


def _total(costs: Sequence[Cost]) -> Spent:
    return Spent(sum(cost.nfe_forward for cost in costs), sum(cost.seconds for cost in costs))


def _alone(work: Work, workers: int) -> float:
    return work.seconds / min(workers, work.pieces)


def _edit_seconds(run: Run, trial: Targets, workers: int) -> float:
    """Of one edit with its sham; the thread's share of it where several are at work."""
    size, editor = editor_of(run, trial.x)
    oracle, x, ids = run.oracle(), trial.x[:size], trial.image_ids[:size]

    def edited() -> int:
        editor(oracle, x, 0, ids)
        return len(x)

    return _seconds_each(edited, workers)


def _noise(run: Run) -> Tensor:
    noise = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, *height_and_width(run.config.data.size), generator=noise).clamp(-1, 1)


def _seconds_each(work: Callable[[], int], workers: int) -> float:
    """Seconds an image while `workers` threads do the same, each with the caller's number of compute threads: `work` returns how
    many images it did."""
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)) as pool:
        started = time.perf_counter()
        done: Sequence[int] = [each.result() for each in [pool.submit(work) for _ in range(workers)]]
    return (time.perf_counter() - started) / sum(done)
