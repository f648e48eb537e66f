"""The explanation stage: counterfactuals for one shard of images, guided and null."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cfx.diffusion.ddpm import DDPM
from cfx.diffusion.first_step import FirstAnswers, FirstStep
from cfx.errors import UserError
from cfx.escalate import Escalated, Explain, escalate
from cfx.guidance import Implicit
from cfx.images import decode_png, encode_png
from cfx.latent_space import drift
from cfx.methods.ace import ACE, ace
from cfx.methods.blended import Blended, blended
from cfx.methods.dime import DiME, FastDiME, dime, fastdime
from cfx.methods.dvce import DVCE, dvce
from cfx.methods.maskdime import MaskDiME, maskdime
from cfx.methods.svce import SVCE, svce
from cfx.methods.time_edit import TIME
from cfx.own_size import at_priors_size, drawn_size, resized
from cfx.random import ImageNoise
from cfx.targets import choose_targets
from cfx.types import Classifier, Counterfactual, Denoiser, Step
from tasks.config import Ladder, Method
from tasks.fixed_batches import batches, filled, size_of_batches
from tasks.networks import lpips_for, perceptual_for, robust_for
from tasks.progress import advance, expect
from tasks.run import Run
from tasks.shard_images import read_images
from tasks.stage import Rows, stage
from tasks.stages.learn import Learned
from tasks.stages.prompts import Prompted, prompted_by, time_towards
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import Shard, read_shard

FUNCTIONS: dict[type[Method], Callable[..., Counterfactual]] = {
    DiME: dime, FastDiME: fastdime, MaskDiME: maskdime, ACE: ace, DVCE: dvce, Blended: blended,
}  # fmt: skip


def respaced(prior: DDPM, method: Method) -> DDPM:
    """The prior over this method's steps, which are kept as the method's released code keeps them, if it is to be as released."""
    return prior.respaced(method.steps, summed=getattr(method, "as_released", False))


class Counted:
    """A denoiser that counts its UNet evaluations, in images: those of the method alone, also where one was known already."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser, self.forward, self.backward = denoiser, 0, 0
        self.alphas_cumprod = denoiser.alphas_cumprod
        self.drawn_size = getattr(denoiser, "drawn_size", lambda height, width: None)
        self.autoencoder = getattr(denoiser, "autoencoder", None)
        self._noise_of_classes = getattr(denoiser, "noise_of_classes", None)
        self._through_network = not getattr(denoiser, "skips_gradient", False)

    def step(self, z: Tensor, t: int) -> Step:
        self.forward += len(z)
        if z.requires_grad and torch.is_grad_enabled() and self._through_network:
            z = z.view_as(z)  # a node of its own, passed once a vector-Jacobian product
            z.register_hook(self._passed)
        return self._denoiser.step(z, t)

    @property
    def noise_of_classes(self) -> Callable[[Tensor, int, Sequence[str]], Tensor] | None:
        """What a generator sees in z (B, C, h, w) at step t given each image's class; none of a prior without classes."""
        seen = self._noise_of_classes
        if seen is None:
            return None

        def counted(z: Tensor, t: int, classes: Sequence[str]) -> Tensor:
            self.forward += len(z)
            noise: Tensor = seen(z, t, classes)
            return noise

        return counted

    @property
    def spent(self) -> int:
        """What they cost, in evaluations: to differentiate through one takes about two more."""
        return self.forward + 2 * self.backward

    def _passed(self, gradient: Tensor) -> None:
        self.backward += len(gradient)


@dataclass(frozen=True)
class Cost:
    """What one image cost on one rung of the ladder."""

    nfe_forward: int
    nfe_backward: int
    seconds: float


def _stopwatch(prompted: Prompted | None) -> Callable[[Counted, int, int], Cost]:
    """Starts now. Called with the denoiser, the number of images and how many it saw with those that filled the batches up,
    it returns the cost of one, TIME's own UNet included."""
    started, before = time.perf_counter(), prompted.evaluated if prompted else 0

    def cost(counted: Counted, n: int, seen: int) -> Cost:
        forward = counted.forward + (prompted.evaluated - before if prompted else 0)
        return Cost(forward // seen, counted.backward // seen, (time.perf_counter() - started) / n)

    return cost


def bind(
    method: Method, denoiser: Denoiser, classifier: Classifier, device: str, prompted: Prompted | None = None
) -> partial[Counterfactual]:
    """The method's function, waiting for x, target and noise. The one place where a method's extras are bound."""
    extras: dict[str, Any] = {}
    match method:
        case DiME() | FastDiME() | MaskDiME():
            extras["perceptual"] = perceptual_for(method.vgg19, device)
        case DVCE():
            extras["robust"] = robust_for(method.robust, device) if method.robust is not None else None
        case Blended():
            extras["lpips"] = lpips_for(method.vgg16, device)
        case SVCE():  # needs no prior, so has no other size
            return partial(svce, denoiser, classifier, config=method)
        case TIME():
            if prompted is None:
                raise UserError("method 'time' edits with words that an audit learns from all its images; it needs `words`")
            return partial(time_towards, prompted, classifier, config=method)
    if getattr(method, "consensus", None) is not None:
        extras["implicit"] = implicit_of(denoiser, classifier)
    return partial(at_priors_size, FUNCTIONS[type(method)], denoiser, classifier, config=method, **extras)


def implicit_of(denoiser: Denoiser, classifier: Classifier) -> Implicit | None:
    """What the prior sees given the class that each image is explained towards; none of a prior without classes."""
    noise_of_classes: Callable[[Tensor, int, Sequence[str]], Tensor] | None = getattr(denoiser, "noise_of_classes", None)
    if noise_of_classes is None:
        return None
    return lambda z, t, target: noise_of_classes(z, t, [classifier.classes[i] for i in target.tolist()])


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


@dataclass(frozen=True)
class Explainer:
    """What explains images: a prior, the classifier that decides, the ladder, and whose gradients or prompts guide."""

    prior: DDPM
    classifier: Classifier
    ladder: Sequence[Method]
    batch_size: int
    guide: Classifier | None = None  # whose gradients; the classifier's own where there is none
    prompted: Prompted | None = None  # TIME's model with a prompt a class

    def size(self, x: Tensor) -> int:
        """How many images a method sees at once. A text-to-image model one: it is large, and inverts what is alike once."""
        return 1 if self.prompted is not None and x.device.type == "cpu" else size_of_batches(x, self.batch_size)

    def bound(self, method: Method, counted: Counted, device: str) -> partial[Counterfactual]:
        """The method, waiting for x, target and noise."""
        return bind(method, counted, self.guide or self.classifier, device, self.prompted)


class Targets(NamedTuple):
    """Images and the class that each is explained towards."""

    image_ids: list[str]
    x: Tensor  # (N, 3, H, W) in [-1, 1]
    target: Tensor  # (N,) class ids


def explain_images(
    explainer: Explainer, targets: Targets, seed: int, known: FirstAnswers | None = None
) -> tuple[Escalated[Method], list[Cost]]:
    """Counterfactuals, in batches, and the cost of each rung an image. Whether an image flipped, the classifier says.

    known: takes what the UNet said of each first state, for `null_images`.
    """
    costs: list[Cost] = []
    size = explainer.size(targets.x)

    def explain(method: Method, x: Tensor, target: Tensor, noise: ImageNoise) -> Counterfactual:
        counted, cost = Counted(FirstStep(respaced(explainer.prior, method), known)), _stopwatch(explainer.prompted)
        run, parts = explainer.bound(method, counted, str(x.device)), batches(len(x), size)
        seen = [filled(x[part], size) for part in parts]
        if method is not explainer.ladder[0]:  # the first rung and the null are expected of every image
            expect(len(x))
        found = []
        for part, batch in zip(parts, seen, strict=True):
            before = counted.spent
            found.append(run(x=batch, target=filled(target[part], size), noise=noise[part].filled(len(batch))))
            advance(len(x[part]), counted.spent - before)
        costs.append(cost(counted, len(x), sum(map(len, seen))))
        masks = [part.mask for part in found if part.mask is not None]
        return Counterfactual(torch.cat([part.x_cf for part in found])[: len(x)], torch.cat(masks)[: len(x)] if masks else None)

    stepwise: Explain[Method] = explain
    ids, x, target = targets
    return escalate(stepwise, explainer.classifier, x, target, explainer.ladder, ids, seed), costs


def null_images(
    explainer: Explainer, targets: Targets, attempt: Tensor, seed: int, known: FirstAnswers | None = None
) -> tuple[Tensor, Tensor, list[Cost]]:
    """The same method without the classifier's guidance, for each image on the rung it ended on, with that rung's noise.

    Rungs that differ in their scale alone have one null, so their images share batches. known: what the UNet said of first states
    in `explain_images`. Returns x_cf, mask (NaN where there is none) and the cost of each image.
    """
    ids, x, target = targets
    x_cf, mask = x.clone(), torch.full_like(x[:, :1], torch.nan)
    spent = [Cost(0, 0, 0.0)] * len(x)
    size = explainer.size(x)
    rungs = attempt.tolist()
    nulls = [method.model_copy(update={"scale": 0.0}) for method in explainer.ladder]
    for method in dict.fromkeys(nulls):
        chosen = [i for i, rung in enumerate(rungs) if nulls[rung] == method]
        for part in batches(len(chosen), size):
            batch = chosen[part]
            counted, cost = Counted(FirstStep(respaced(explainer.prior, method), known)), _stopwatch(explainer.prompted)
            run = explainer.bound(method, counted, str(x.device))
            noise = ImageNoise.of([ids[i] for i in batch], seed, [rungs[i] for i in batch])
            seen = filled(x[batch], size)
            found = run(x=seen, target=filled(target[batch], size), noise=noise.filled(len(seen)))
            x_cf[batch] = found.x_cf[: len(batch)]
            if found.mask is not None:
                mask[batch] = found.mask[: len(batch)]
            advance(len(batch), counted.spent)
            for i, one in zip(batch, [cost(counted, len(batch), len(seen))] * len(batch), strict=True):
                spent[i] = one
    return x_cf, mask, spent


def _total(costs: Sequence[Cost]) -> Cost:
    return Cost(sum(c.nfe_forward for c in costs), sum(c.nfe_backward for c in costs), sum(c.seconds for c in costs))


@torch.no_grad()
def measured(
    classifier: Classifier, judge: Classifier | None, targets: Targets, source: Tensor, found: Counterfactual
) -> dict[str, list[Any]]:
    """The columns of `explanations` that are measured on the images themselves; source: (N,) class ids before."""
    x, x_cf, mask = targets.x, found.x_cf, found.mask
    assert mask is not None
    png = encode_png(x_cf)
    rounded = decode_png(png).to(x)
    before, after = classifier(x).softmax(1).double().cpu(), classifier(x_cf).softmax(1).double().cpu()
    goal = targets.target.cpu()
    difference = (x_cf - x).double().cpu().flatten(1) / 2  # on [0, 1]
    names, rows = classifier.classes, torch.arange(len(x))
    masked = [not bool(m.isnan().any()) for m in mask]
    changed = mask.flatten(1).mean(1).cpu()
    visible = [
        encode_png((m * 2 - 1).expand(3, -1, -1)[None])[0] if there else None for m, there in zip(mask, masked, strict=True)
    ]
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
        "mask_fraction": [float(share) if there else 1.0 for share, there in zip(changed, masked, strict=True)],
        "png": png,
        "mask_png": visible,
    }


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
    prompted = None
    if run.config.words is not None and learned.prompts is not None:
        prompted = prompted_by(run.config.words, learned.prompts, run.device)
    return Explainer(run.denoiser(), run.classifier(), run.config.ladder, run.config.batch_size, guide, prompted)


def targets_of(run: Run, images: Shard, predicted: Shard, learned: Learned) -> tuple[Targets, Tensor]:
    """The images of a shard that are not yet predicted as their target, and the class (N,) that each is predicted as."""
    ids, x = read_images(images)
    probabilities = torch.tensor(read_shard(predicted, ["probabilities"])["probabilities"].to_pylist())
    source = probabilities.argmax(1)
    target = choose_targets(probabilities, run.config.target, run.classes, learned.nearest, ids)
    wanted = torch.nonzero(source != target)[:, 0]
    goal = target[wanted].to(run.device)
    return Targets([ids[i] for i in wanted.tolist()], x[wanted].to(run.device), goal), source[wanted]


@stage("explanations")
def explain(run: Run, images: Shard, predicted: Shard, learned: Learned) -> Rows:
    """Counterfactuals for one shard of images: every seed, guided and null; none of an image already predicted as its target."""
    targets, source = targets_of(run, images, predicted, learned)
    if not targets.image_ids:
        return {name: [] for name in FACTS["explanations"].schema.names}
    expect(2 * len(targets.image_ids) * len(run.config.seeds))
    explainer = explainer_of(run, learned)
    arms = [arm for seed in run.config.seeds for arm in _both_arms(run, explainer, targets, source, seed)]
    return {name: [value for arm in arms for value in arm[name]] for name in arms[0]}


def _both_arms(run: Run, explainer: Explainer, targets: Targets, source: Tensor, seed: int) -> Iterator[dict[str, list[Any]]]:
    """The rows of one seed: guided, then null."""
    starts: FirstAnswers = {}
    drifted = autoencoder_l1(explainer, targets.x)
    guided, rung_costs = explain_images(explainer, targets, seed, starts)
    attempt = guided.attempt.tolist()
    x_null, mask, costs = null_images(explainer, targets, guided.attempt, seed, starts)
    arms = {
        "guided": (Counterfactual(guided.x_cf, guided.mask), [_total(rung_costs[: a + 1]) for a in attempt]),
        "null": (Counterfactual(x_null, mask), costs),
    }
    for arm, (found, spent) in arms.items():
        columns = {"seed": [seed] * len(attempt), "attempt": attempt, "autoencoder_l1": drifted} | _arm(run, targets, arm, spent)
        yield columns | measured(run.classifier(), run.judge(), targets, source, found)


def autoencoder_l1(explainer: Explainer, x: Tensor) -> list[float] | list[None]:
    """How far the prior's autoencoder alone moves each image x (N, 3, H, W), at the size that it draws; none without one."""
    autoencoder, size = explainer.prior.autoencoder, drawn_size(explainer.prior, x)
    if autoencoder is None:
        return [None] * len(x)
    parts = (x[part] if size is None else resized(x[part], size) for part in batches(len(x), explainer.size(x)))
    return torch.cat([drift(autoencoder, part) for part in parts]).tolist()


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
