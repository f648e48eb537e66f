"""`Explainer`: what explains images, by a ladder in batches of one size; and their nulls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cfx.diffusion.ddpm import DDPM
from cfx.diffusion.first_step import FirstAnswers, FirstStep
from cfx.editor import Editor
from cfx.errors import UserError
from cfx.escalate import Escalated, Explain, escalate
from cfx.guidance import Implicit
from cfx.methods.ace import ACE, ace
from cfx.methods.blended import Blended, blended
from cfx.methods.dime import DiME, FastDiME, dime, fastdime
from cfx.methods.dvce import DVCE, dvce
from cfx.methods.maskdime import MaskDiME, maskdime
from cfx.methods.svce import SVCE, svce
from cfx.methods.time_edit import TIME
from cfx.own_size import at_priors_size
from cfx.random import ImageNoise
from cfx.region import held, in_region, unheld
from cfx.types import Classifier, Counterfactual, Denoiser
from tasks.config import Ladder, Method
from tasks.cost import Cost, Counted, stopwatch
from tasks.fixed_batches import batches, filled, size_of_batches
from tasks.networks import lpips_for, perceptual_for, robust_for
from tasks.progress import advance, expect
from tasks.stages.prompts import Prompted, time_towards

FUNCTIONS: dict[type[Method], Callable[..., Counterfactual]] = {
    DiME: dime, FastDiME: fastdime, MaskDiME: maskdime, ACE: ace, DVCE: dvce, Blended: blended,
}  # fmt: skip


def respaced(prior: DDPM, method: Method) -> DDPM:
    """The prior over this method's steps, which are kept as the method's released code keeps them, if it is to be as released."""
    return prior.respaced(method.steps, summed=getattr(method, "as_released", False))


def bind(
    method: Method, denoiser: Denoiser, classifier: Classifier, device: str, prompted: Prompted | None = None
) -> partial[Counterfactual]:
    """The method's function, waiting for x, target, noise and a region, if it is held to one. The one place where a method's
    extras are bound."""
    extras: dict[str, Any] = {}
    match method:
        case DiME() | FastDiME() | MaskDiME():
            extras["perceptual"] = perceptual_for(method.vgg19, device)
        case DVCE():
            extras["robust"] = robust_for(method.robust, device) if method.robust is not None else None
        case Blended():
            extras["lpips"] = lpips_for(method.vgg16, device)
        case SVCE():  # needs no prior, so has no other size
            return partial(in_region, partial(unheld, svce), denoiser, classifier, config=method)
        case TIME():
            if prompted is None:
                raise UserError("method 'time' edits with words that an audit learns from all its images; it needs `words`")
            return partial(in_region, partial(unheld, time_towards), prompted, classifier, config=method)
    if getattr(method, "consensus", None) is not None:
        extras["implicit"] = implicit_of(denoiser, classifier)
    drawn = partial(at_priors_size, partial(held, FUNCTIONS[type(method)]))
    return partial(in_region, drawn, denoiser, classifier, config=method, **extras)


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
    editor: Editor | None = None  # proposes before the ladder explains

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

    def of(self, rows: Sequence[int]) -> Targets:
        """Some of them, by their positions."""
        return Targets([self.image_ids[i] for i in rows], self.x[rows], self.target[rows])


def explain_images(
    explainer: Explainer, targets: Targets, seed: int, known: FirstAnswers | None = None
) -> tuple[Escalated[Method], list[Cost]]:
    """Counterfactuals, in batches, and the cost of each rung an image. Whether an image flipped, the classifier says.

    known: takes what the UNet said of each first state, for `null_images`.
    """
    costs: list[Cost] = []
    size = explainer.size(targets.x)

    def explain(method: Method, x: Tensor, target: Tensor, noise: ImageNoise) -> Counterfactual:
        counted, cost = Counted(FirstStep(respaced(explainer.prior, method), known)), stopwatch(explainer.prompted)
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
    explainer: Explainer,
    targets: Targets,
    attempt: Tensor,
    seed: int,
    known: FirstAnswers | None = None,
    region: Tensor | None = None,
) -> tuple[Tensor, Tensor, list[Cost]]:
    """The same method without the classifier's guidance, for each image on the rung it ended on, with that rung's noise.

    Rungs that differ in their scale alone have one null, so their images share batches. See `images_on_rungs`.
    """
    unguided = [method.model_copy(update={"scale": 0.0}) for method in explainer.ladder]
    return images_on_rungs(replace(explainer, ladder=unguided), targets, attempt, seed, known, region)


def images_on_rungs(
    explainer: Explainer,
    targets: Targets,
    attempt: Tensor,
    seed: int,
    known: FirstAnswers | None = None,
    region: Tensor | None = None,
) -> tuple[Tensor, Tensor, list[Cost]]:
    """Each image tried once, on one rung of the ladder, with that rung's noise.

    attempt: (N,), the rung; known: what the UNet said of first states in `explain_images` or here; region: (N, 1, H, W), 1 where
    each may change. Returns x_cf, mask (NaN where there is none) and the cost of each image.
    """
    ids, x, target = targets
    x_cf, mask = x.clone(), torch.full_like(x[:, :1], torch.nan)
    spent = [Cost(0, 0, 0.0)] * len(x)
    size = explainer.size(x)
    rungs = attempt.tolist()
    for method in dict.fromkeys(explainer.ladder):
        chosen = [i for i, rung in enumerate(rungs) if explainer.ladder[rung] == method]
        for part in batches(len(chosen), size):
            batch = chosen[part]
            counted, cost = Counted(FirstStep(respaced(explainer.prior, method), known)), stopwatch(explainer.prompted)
            run = explainer.bound(method, counted, str(x.device))
            noise = ImageNoise.of([ids[i] for i in batch], seed, [rungs[i] for i in batch])
            seen = filled(x[batch], size)
            inside = None if region is None else filled(region[batch], size)
            found = run(x=seen, target=filled(target[batch], size), noise=noise.filled(len(seen)), region=inside)
            x_cf[batch] = found.x_cf[: len(batch)]
            if found.mask is not None:
                mask[batch] = found.mask[: len(batch)]
            advance(len(batch), counted.spent)
            for i, one in zip(batch, [cost(counted, len(batch), len(seen))] * len(batch), strict=True):
                spent[i] = one
    return x_cf, mask, spent
