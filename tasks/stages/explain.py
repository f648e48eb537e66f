"""The explanation stage: counterfactuals for one shard of images, guided and null."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from cfx.classifiers import AnyClassifier, ClassifierConfig
from cfx.diffusion.ddpm import DDPM
from cfx.errors import UserError
from cfx.escalate import Escalated, Explain, escalate
from cfx.images import decode_png, encode_png
from cfx.methods.ace import ACE, ace
from cfx.methods.blended import Blended, blended
from cfx.methods.dime import DiME, FastDiME, dime, fastdime
from cfx.methods.dvce import DVCE, dvce
from cfx.methods.maskdime import MaskDiME, maskdime
from cfx.methods.svce import SVCE, svce
from cfx.methods.time_edit import TIME
from cfx.nearest import Nearest
from cfx.perceptual import LPIPS, Perceptual, load_lpips, load_perceptual
from cfx.presets import named
from cfx.random import ImageNoise
from cfx.targets import choose_targets
from cfx.types import Classifier, Counterfactual, Denoiser, Step
from tasks.stages.predict import classifier_for, image_rows, read_batch
from tasks.stages.prior import denoiser_for
from tasks.stages.prompts import Spoken, WordsConfig, spoken_by, time_towards
from tasks.stages.queries import answers_of
from warehouse.facts.shards import Shard, find_shard, read_shard, write_shard

Method = Annotated[DiME | FastDiME | MaskDiME | ACE | DVCE | SVCE | Blended | TIME, Field(discriminator="method")]
Ladder = Annotated[tuple[Method, ...], Field(min_length=1), BeforeValidator(named)]  # or a preset's name


class Counted:
    """A denoiser that counts its UNet evaluations, in images."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser, self.forward, self.backward = denoiser, 0, 0
        self.alphas_cumprod = denoiser.alphas_cumprod

    def step(self, z: Tensor, t: int) -> Step:
        self.forward += len(z)
        if z.requires_grad and torch.is_grad_enabled():
            z = z.view_as(z)  # a node of its own, passed once a vector-Jacobian product
            z.register_hook(self._passed)
        return self._denoiser.step(z, t)

    def _passed(self, gradient: Tensor) -> None:
        self.backward += len(gradient)


@dataclass(frozen=True)
class Cost:
    """What one image cost on one rung of the ladder."""

    nfe_forward: int
    nfe_backward: int
    seconds: float


def _stopwatch(spoken: Spoken | None) -> Callable[[Counted, int], Cost]:
    """Starts now; told the denoiser and how many images it was for, it gives what one of them cost, TIME's own UNet included."""
    started, said = time.perf_counter(), spoken.evaluated if spoken else 0

    def cost(counted: Counted, n: int) -> Cost:
        forward = counted.forward + (spoken.evaluated - said if spoken else 0)
        return Cost(forward // n, counted.backward // n, (time.perf_counter() - started) / n)

    return cost


@cache
def perceptual_for(vgg19: str | None, device: str) -> Perceptual | None:
    """VGG19's distance, if the method names a file of its weights; loaded once a process."""
    return load_perceptual(Path(vgg19), device) if vgg19 else None


@cache
def lpips_for(vgg16: str | None, device: str) -> LPIPS | None:
    """LPIPS, if the method names a file of its weights; loaded once a process."""
    return load_lpips(Path(vgg16), device) if vgg16 else None


def bind(
    method: Method, denoiser: Denoiser, classifier: Classifier, device: str, spoken: Spoken | None = None
) -> partial[Counterfactual]:
    """The method's function, waiting for x, target and noise. The one place where a method's extras are bound."""
    match method:
        case DiME():
            return partial(dime, denoiser, classifier, config=method, perceptual=perceptual_for(method.vgg19, device))
        case FastDiME():
            return partial(fastdime, denoiser, classifier, config=method, perceptual=perceptual_for(method.vgg19, device))
        case MaskDiME():
            return partial(maskdime, denoiser, classifier, config=method, perceptual=perceptual_for(method.vgg19, device))
        case ACE():
            return partial(ace, denoiser, classifier, config=method)
        case DVCE():
            robust = classifier_for(method.robust, device) if method.robust is not None else None
            return partial(dvce, denoiser, classifier, config=method, robust=robust)
        case SVCE():
            return partial(svce, denoiser, classifier, config=method)
        case Blended():
            return partial(blended, denoiser, classifier, config=method, lpips=lpips_for(method.vgg16, device))
        case TIME():
            if spoken is None:
                raise UserError("method 'time' edits with words that an audit learns from all its pictures; it needs `words`")
            return partial(time_towards, spoken, classifier, config=method)


def check_ladder(ladder: Ladder, classifier: Classifier, surrogate: bool = False) -> None:
    """Raises UserError if a method of the ladder cannot explain this classifier, or if methods are mixed.

    With a `surrogate` gradients come from there.
    """
    names = {method.method for method in ladder}
    if len(names) > 1:
        raise UserError(f"a ladder is one method tried harder, but this one mixes {', '.join(sorted(names))}")
    if not (classifier.differentiable or surrogate or "time" in names):
        raise UserError(
            f"method {ladder[0].method!r} needs gradients, but the classifier is a black box; use a torch classifier, or let an "
            "audit distil one from its answers: `surrogate: {}`"
        )


def _together(x: Tensor, batch_size: int) -> int:
    """How many pictures a method sees at once: one on a CPU, whatever the batch size.

    Its kernels round differently for other batch shapes, and the hard edges of a mask turn a last digit into a visible pixel.
    """
    return 1 if x.device.type == "cpu" else batch_size


def explain_images(
    prior: DDPM,
    classifier: Classifier,
    x: Tensor,
    target: Tensor,
    ladder: Sequence[Method],
    image_ids: Sequence[str],
    seed: int,
    batch_size: int,
    guide: Classifier | None = None,
    spoken: Spoken | None = None,
) -> tuple[Escalated[Method], list[Cost]]:
    """Counterfactuals for x (N, 3, H, W) in [-1, 1] towards target (N,), in batches, and the cost of each rung an image.

    Gradients are those of `guide`, or of the classifier itself; whether a picture flipped, the classifier says.
    """
    costs: list[Cost] = []
    batch_size = _together(x, batch_size)

    def explain(method: Method, x: Tensor, target: Tensor, noise: ImageNoise) -> Counterfactual:
        counted, cost = Counted(prior.respaced(method.steps)), _stopwatch(spoken)
        run = bind(method, counted, guide or classifier, str(x.device), spoken)
        batches = [slice(i, i + batch_size) for i in range(0, len(x), batch_size)]
        found = [run(x=x[batch], target=target[batch], noise=noise[batch]) for batch in batches]
        costs.append(cost(counted, len(x)))
        masks = [part.mask for part in found if part.mask is not None]
        return Counterfactual(torch.cat([part.x_cf for part in found]), torch.cat(masks) if masks else None)

    stepwise: Explain[Method] = explain
    return escalate(stepwise, classifier, x, target, ladder, image_ids, seed), costs


def null_images(
    prior: DDPM,
    classifier: Classifier,
    x: Tensor,
    target: Tensor,
    ladder: Sequence[Method],
    attempt: Tensor,
    image_ids: Sequence[str],
    seed: int,
    batch_size: int,
    spoken: Spoken | None = None,
) -> tuple[Tensor, Tensor, list[Cost]]:
    """The same method without the classifier's guidance, for each image on the rung it ended on, with that rung's noise.

    Returns x_cf, mask (NaN where there is none) and the cost of each image.
    """
    x_cf, mask = x.clone(), torch.full_like(x[:, :1], torch.nan)
    spent = [Cost(0, 0, 0.0)] * len(x)
    batch_size = _together(x, batch_size)
    for index, method in enumerate(ladder):
        chosen = torch.nonzero(attempt == index)[:, 0].tolist()
        for start in range(0, len(chosen), batch_size):
            batch = chosen[start : start + batch_size]
            counted, cost = Counted(prior.respaced(method.steps)), _stopwatch(spoken)
            run = bind(method.model_copy(update={"scale": 0.0}), counted, classifier, str(x.device), spoken)
            found = run(x=x[batch], target=target[batch], noise=ImageNoise.of([image_ids[i] for i in batch], seed, index))
            x_cf[batch] = found.x_cf
            if found.mask is not None:
                mask[batch] = found.mask
            each = cost(counted, len(batch))
            for i in batch:
                spent[i] = each
    return x_cf, mask, spent


def _total(costs: Sequence[Cost]) -> Cost:
    return Cost(sum(c.nfe_forward for c in costs), sum(c.nfe_backward for c in costs), sum(c.seconds for c in costs))


@torch.no_grad()
def _rows(
    classifier: Classifier,
    judge: Classifier | None,
    x: Tensor,
    x_cf: Tensor,
    mask: Tensor,
    source: list[int],
    target: list[int],
) -> dict[str, list[Any]]:
    """The columns of `explanations` that are measured on the pictures themselves."""
    png = encode_png(x_cf)
    rounded = decode_png(png).to(x)
    before, after = classifier(x).softmax(1).double().cpu(), classifier(x_cf).softmax(1).double().cpu()
    goal = torch.tensor(target)
    difference = (x_cf - x).double().cpu().flatten(1) / 2  # on [0, 1]
    names = classifier.classes
    judged: list[bool | None] = [None] * len(x)
    if judge is not None:
        wanted = torch.tensor([judge.classes.index(names[t]) for t in target])
        judged = (judge(x_cf).argmax(1).cpu() == wanted).tolist()
    masked = [not bool(m.isnan().any()) for m in mask]
    changed = mask.flatten(1).mean(1).cpu() if len(mask) else mask
    visible = [
        encode_png((m * 2 - 1).expand(3, -1, -1)[None])[0] if there else None for m, there in zip(mask, masked, strict=True)
    ]
    each = range(len(x))
    return {
        "source": [names[s] for s in source],
        "target": [names[t] for t in target],
        "p_source": [float(before[i, source[i]]) for i in each],
        "p_target": [float(before[i, target[i]]) for i in each],
        "p_source_cf": [float(after[i, source[i]]) for i in each],
        "p_target_cf": [float(after[i, target[i]]) for i in each],
        "flipped": (after.argmax(1) == goal).tolist(),
        "flipped_8bit": (classifier(rounded).argmax(1).cpu() == goal).tolist(),
        "judge_flipped": judged,
        "l1": difference.abs().mean(1).tolist(),
        "l2": difference.norm(dim=1).tolist(),
        "linf": difference.abs().amax(1).tolist(),
        "mask_fraction": [float(changed[i]) if masked[i] else 1.0 for i in each],
        "png": png,
        "mask_png": visible,
    }


def explain_shard(
    root: Path,
    run_id: str,
    images: Shard,
    predicted: Shard,
    prior: Path,
    classifier_config: AnyClassifier,
    judge_config: AnyClassifier | None,
    target_policy: str,
    nearest: Nearest | None,
    ladder: Ladder,
    seeds: tuple[int, ...],
    batch_size: int,
    device: str,
    surrogate: Path | None = None,
    words_config: WordsConfig | None = None,
    words: Path | None = None,
) -> Shard:
    """Counterfactuals for one shard of images: every seed, guided and null. A surrogate guides where the classifier
    cannot; TIME edits with the run's words.

    An image that is already predicted as its target is left out.
    """
    done = find_shard(root, "explanations", run_id, images.key)
    if done is not None:
        return done
    answers = answers_of(root, run_id)
    classifier = classifier_for(classifier_config, device, answers)
    judge = classifier_for(judge_config, device, answers) if judge_config is not None else None
    guide = classifier if surrogate is None else classifier_for(ClassifierConfig(weights=surrogate), device)
    spoken = spoken_by(words_config, words, device) if words_config is not None and words is not None else None
    denoiser = denoiser_for(prior, device)
    probabilities = torch.tensor(read_shard(predicted, ["probabilities"])["probabilities"].to_pylist())
    source = probabilities.argmax(1)
    target = choose_targets(probabilities, target_policy, classifier.classes, nearest)
    wanted = torch.nonzero(source != target)[:, 0].tolist()
    ids = [image_rows(images)[i] for i in wanted]
    x = read_batch(images).to(device)[wanted]
    source_ids, target_ids = source[wanted].tolist(), target[wanted].tolist()
    rows: dict[str, list[Any]] = {}

    def add(method: str, arm: str, seed: int, columns: dict[str, list[Any]], attempt: list[int], costs: list[Cost]) -> None:
        n = len(ids)
        columns = columns | {
            "image_id": ids,
            "method": [method] * n,
            "arm": [arm] * n,
            "seed": [seed] * n,
            "attempt": attempt,
            "nfe_forward": [cost.nfe_forward for cost in costs],
            "nfe_backward": [cost.nfe_backward for cost in costs],
            "seconds": [cost.seconds for cost in costs],
            "device": [device] * n,
        }
        for name, values in columns.items():
            rows.setdefault(name, []).extend(values)

    goal = torch.tensor(target_ids, device=x.device, dtype=torch.long)
    for seed in seeds if ids else ():
        guided, rung_costs = explain_images(denoiser, classifier, x, goal, ladder, ids, seed, batch_size, guide, spoken)
        attempt = guided.attempt.tolist()
        measured = _rows(classifier, judge, x, guided.x_cf, guided.mask, source_ids, target_ids)
        add(ladder[0].method, "guided", seed, measured, attempt, [_total(rung_costs[: a + 1]) for a in attempt])
        x_null, mask, costs = null_images(denoiser, guide, x, goal, ladder, guided.attempt, ids, seed, batch_size, spoken)
        measured = _rows(classifier, judge, x, x_null, mask, source_ids, target_ids)
        add(ladder[0].method, "null", seed, measured, attempt, costs)
    return write_shard(root, "explanations", run_id, images.key, rows)
