"""The explanation stage: counterfactuals for one shard of images, guided and null."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cfx.diffusion.first_step import FirstAnswers
from cfx.images import from_uint8, to_uint8
from cfx.latent_space import drift
from cfx.own_size import drawn_size, resized
from cfx.targets import choose_targets
from cfx.transfers import to_device
from cfx.types import Classifier, Counterfactual
from tasks.cost import Cost, total
from tasks.explainer import Explainer, Targets, explain_images, null_images
from tasks.fixed_batches import batches
from tasks.pictures import Pictures
from tasks.progress import advance, expect
from tasks.run import Run
from tasks.shard_images import read_images
from tasks.stage import Rows, stage
from tasks.stages.editor import NULL_PASSES, PASSES, editor_of, proposals
from tasks.stages.learn import Learned
from tasks.stages.nulls import taken_over
from tasks.stages.prompts import prompted_by
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import Shard, read_shard


@torch.no_grad()
def measured(
    classifier: Classifier,
    judge: Classifier | None,
    targets: Targets,
    source: Tensor,
    found: Counterfactual,
    pictures: Pictures | None = None,
) -> dict[str, list[Any]]:
    """The columns of `explanations` that are measured on the images themselves; source: (N,) class ids before. pictures: of
    `found`, where they are in the making."""
    x, x_cf, mask = targets.x, found.x_cf, found.mask
    assert mask is not None
    rounded = from_uint8(to_uint8(x_cf)).to(x)
    before, after = classifier(x).softmax(1).double().cpu(), classifier(x_cf).softmax(1).double().cpu()
    goal = targets.target.cpu()
    difference = (x_cf - x).double().cpu().flatten(1) / 2  # on [0, 1]
    names, rows = classifier.classes, torch.arange(len(x))
    changed = mask.flatten(1).mean(1).cpu()
    return {
        "source": [names[i] for i in source.tolist()],
        "target": [names[i] for i in goal.tolist()],
        "p_source": before[rows, source].tolist(),
        "p_target": before[rows, goal].tolist(),
        "p_source_cf": after[rows, source].tolist(),
        "p_target_cf": after[rows, goal].tolist(),
        "flipped": (after.argmax(1) == goal).tolist(),
        "flipped_8bit": (classifier(rounded).argmax(1).cpu() == goal).tolist(),
        "judge_flipped": _judged(judge, [names[i] for i in goal.tolist()], x_cf),
        "l1": difference.abs().mean(1).tolist(),
        "l2": difference.norm(dim=1).tolist(),
        "linf": difference.abs().amax(1).tolist(),
        "mask_fraction": changed.where(~changed.isnan(), 1.0).tolist(),
    } | (pictures or Pictures(found)).columns()


def _judged(judge: Classifier | None, target: Sequence[str], x_cf: Tensor) -> list[bool | None]:
    """Whether the judge sees the target, whose classes may be in another order."""
    if judge is None:
        return [None] * len(target)
    wanted = torch.tensor([judge.classes.index(name) for name in target])
    said: list[bool | None] = (judge(x_cf).argmax(1).cpu() == wanted).tolist()
    return said


def explainer_of(run: Run, learned: Learned) -> Explainer:
    """What explains this run's images: a surrogate guides where the classifier cannot; TIME edits with the run's prompts."""
    guide = run.classifier() if learned.surrogate is None else run.surrogate(learned.surrogate)
    prompted, editor = None, editor_of(run, learned.editor) if learned.editor is not None else None
    if run.config.words is not None and learned.prompts is not None:
        prompted = prompted_by(run.config.words, learned.prompts, run.device)
    return Explainer(run.denoiser(), run.classifier(), run.config.ladder, run.config.batch_size, guide, prompted, editor)


def targets_of(run: Run, images: Shard, predicted: Shard, learned: Learned) -> tuple[Targets, Tensor]:
    """The images of a shard that are not yet predicted as their target, and the class (N,) that each is predicted as."""
    ids, x = read_images(images)
    probabilities = torch.tensor(read_shard(predicted, ["probabilities"])["probabilities"].to_pylist())
    source = probabilities.argmax(1)
    target = choose_targets(probabilities, run.config.target, run.classes, learned.nearest, ids)
    wanted = torch.nonzero(source != target)[:, 0]
    goal = target[wanted].to(run.device)
    return Targets([ids[i] for i in wanted.tolist()], to_device(x[wanted], run.device), goal), source[wanted]


@stage("explanations")
def explain(run: Run, images: Shard, predicted: Shard, learned: Learned) -> Rows:
    """Counterfactuals for one shard of images: every seed, guided and null; none of an image already predicted as its target."""
    targets, source = targets_of(run, images, predicted, learned)
    if not targets.image_ids:
        return {name: [] for name in FACTS["explanations"].schema.names}
    expect(2 * len(targets.image_ids) * len(run.config.seeds))
    explainer = explainer_of(run, learned)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        arms = [arm for seed in run.config.seeds for arm in _both_arms(run, explainer, targets, source, seed, pool)]
    return {name: [value for arm in arms for value in arm[name]] for name in arms[0]}


def _both_arms(
    run: Run, explainer: Explainer, targets: Targets, source: Tensor, seed: int, pool: Executor
) -> Iterator[dict[str, list[Any]]]:
    """The rows of one seed: guided, then null. `pool` makes the files of guided images while their nulls are drawn."""
    files: list[Pictures] = []
    drifted = autoencoder_l1(explainer, targets.x)
    drawn = drawn_of(
        explainer,
        targets,
        source,
        seed,
        partial(taken_over, run, null_images),
        when_guided=lambda found: files.append(Pictures(found, pool)),
    )
    files.append(Pictures(Counterfactual(drawn.null.x_cf, drawn.null.mask), pool))
    for name, arm, made in zip(("guided", "null"), (drawn.guided, drawn.null), files, strict=True):
        columns: dict[str, list[Any]] = {"seed": [seed] * len(drawn.way), "attempt": drawn.attempt, "way": drawn.way}
        columns |= {"autoencoder_l1": [*drifted]} | _arm(run, targets, name, arm.costs)
        found = Counterfactual(arm.x_cf, arm.mask)
        yield columns | measured(run.classifier(), run.judge(), targets, source, found, made)


def autoencoder_l1(explainer: Explainer, x: Tensor) -> list[float] | list[None]:
    """How far the prior's autoencoder alone moves each image x (N, 3, H, W), at the size that it draws; none without one."""
    autoencoder, size = explainer.prior.autoencoder, drawn_size(explainer.prior, x)
    if autoencoder is None:
        return [None] * len(x)
    parts = (x[part] if size is None else resized(x[part], size) for part in batches(len(x), explainer.size(x)))
    return torch.cat([drift(autoencoder, part) for part in parts]).tolist()


DrawNulls = Callable[[Explainer, Targets, Tensor, int, FirstAnswers | None], tuple[Tensor, Tensor, list[Cost]]]


class Arm(NamedTuple):
    """One arm of N images."""

    x_cf: Tensor  # (N, 3, H, W) in [-1, 1]
    mask: Tensor  # (N, 1, H, W), NaN where there is none
    costs: list[Cost]


class DrawnArms(NamedTuple):
    """Both arms of N images, and which way each came: from the editor, or from a rung of the ladder."""

    guided: Arm
    null: Arm
    attempt: list[int]  # -1: the editor's proposal
    way: list[str]


def drawn_of(
    explainer: Explainer,
    targets: Targets,
    source: Tensor,
    seed: int,
    nulls: DrawNulls = null_images,
    when_guided: Callable[[Counterfactual], None] = lambda found: None,
) -> DrawnArms:
    """What an editor proposes, where there is one; the ladder explains what it does not propose for, and what fails.

    An image that the ladder explains has the noise, and the pictures bit for bit, that it would have without an editor. What its
    failed proposal cost is part of its cost. nulls: draws as `null_images` does; when_guided: called before that.
    """
    n, rest = len(targets.image_ids), list(range(len(targets.image_ids)))
    x, no_mask = targets.x, torch.full_like(targets.x[:, :1], torch.nan)
    guided, null = (Arm(x.clone(), no_mask.clone(), [Cost(0, 0, 0.0)] * n) for _ in range(2))
    attempt, way = [-1] * n, ["ladder"] * n
    if explainer.editor is not None:
        found = proposals(explainer.editor, explainer.classifier, x, source.to(x.device), targets.target, explainer.batch_size)
        guided.x_cf[:], guided.mask[:], null.x_cf[:], null.mask[:] = found.guided, found.mask, found.null, found.mask
        for i, known in enumerate(found.known):
            if known:
                way[i] = "editor" if found.accepted[i] else "ladder after editor"
                guided.costs[i], null.costs[i] = Cost(PASSES, 0, found.seconds[i]), Cost(NULL_PASSES, 0, found.null_seconds[i])
        rest = [i for i in rest if way[i] != "editor"]
        advance(2 * (n - len(rest)), PASSES * sum(found.known) + NULL_PASSES * (n - len(rest)))
    if not rest:
        when_guided(Counterfactual(guided.x_cf, guided.mask))
    else:
        left, starts = targets.of(rest), FirstAnswers()
        climbed, rung_costs = explain_images(explainer, left, seed, starts)
        guided.x_cf[rest], guided.mask[rest] = climbed.x_cf, climbed.mask
        when_guided(Counterfactual(guided.x_cf, guided.mask))
        null.x_cf[rest], null.mask[rest], null_costs = nulls(explainer, left, climbed.attempt, seed, starts)
        for i, rung, cost in zip(rest, climbed.attempt.tolist(), null_costs, strict=True):
            attempt[i], null.costs[i] = rung, cost
            guided.costs[i] = total([guided.costs[i], *rung_costs[: rung + 1]])
    return DrawnArms(guided, null, attempt, way)


def _arm(run: Run, targets: Targets, arm: str, costs: Sequence[Cost]) -> dict[str, list[Any]]:
    n = len(costs)
    return {
        "image_id": targets.image_ids,
        "method": [run.config.ladder[0].method] * n,
        "arm": [arm] * n,
        "nfe_forward": [cost.nfe_forward for cost in costs],
        "nfe_backward": [cost.nfe_backward for cost in costs],
        "seconds": [cost.seconds for cost in costs],
        "device": [run.device] * n,
    }
