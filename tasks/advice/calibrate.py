"""Choosing a ladder: how deep to noise so that predictions survive, then how hard to guide, on a few of the audit's images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cfx.classifiers import AnyClassifier
from cfx.diffusion.ddpm import DDPM
from cfx.errors import UserError
from cfx.nearest import nearest_in_hierarchy
from cfx.targets import Hierarchy, choose_targets
from cfx.types import Classifier
from tasks.advice.prior_check import deepest, filtered
from tasks.data.ingest import DataConfig, sample
from tasks.stages.explain import Ladder, Method, check_ladder, explain_images
from tasks.stages.predict import classifier_for
from tasks.stages.prior import denoiser_for

DEPTHS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.36, 0.42, 0.5, 0.6, 0.7)  # tau as a share of the steps
WEAK, STRONG = 0.5, 0.98  # flip rates that the ladder's first and last rung are looked for at
DOUBLINGS = 6
SEED = 0

Report = Callable[[str], None]


class Depth(NamedTuple):
    """What noising to tau and denoising does without guidance."""

    tau: int
    timestep: int  # of the prior's original steps
    kept: float  # share of predictions that survive
    distance: float  # mean |F(x) - x|, pixels on [0, 1]


class Strength(NamedTuple):
    """What one scale does at the chosen depth."""

    scale: float
    flipped: float
    judged: float | None  # share that the judge also gives the target; none without a judge
    l1: float  # mean |x_cf - x|, pixels on [0, 1]


class Calibration(NamedTuple):
    """The tables, and the ladder they lead to, as YAML would hold it."""

    n: int
    depths: list[Depth]
    strengths: list[Strength]
    ladder: list[dict[str, Any]]


def calibrate(
    prior: Path,
    classifier_config: AnyClassifier,
    judge_config: AnyClassifier | None,
    data: DataConfig,
    target: str,
    hierarchy: Hierarchy | None,
    ladder: Ladder,
    n: int,
    keep: float,
    device: str,
    report: Report = lambda line: None,
) -> Calibration:
    """A ladder for this audit: the deepest tau up to which a share `keep` of predictions survives, and one to three scales.

    All else is as in the ladder's first rung. Of the target most-confused, which needs all predictions, the runner-up stands in.
    `report` hears of each measurement. Raises UserError for a method without noise, for a black box, and if no prediction
    survives or none flips.
    """
    first = ladder[0]
    if not hasattr(first, "tau"):
        raise UserError(f"method {first.method!r} adds no noise, so there is no tau to calibrate; choose its radii by hand")
    classifier, denoiser = classifier_for(classifier_config, device), denoiser_for(prior, device)
    check_ladder(ladder, classifier)
    judge = classifier_for(judge_config, device) if judge_config is not None else None
    images = sample(data, n)
    x = images.x.to(device)
    depths = _depths(denoiser, classifier, x, images.ids, first.steps, keep, report)
    chosen = [depth for depth in depths if depth.kept >= keep]
    if not chosen:
        raise UserError(
            f"even at tau {depths[0].tau} of {first.steps} only {depths[0].kept:.0%} of predictions survive noising and "
            "denoising; the prior does not fit these pictures, or was imported with other arguments than it was trained with; "
            "or lower --keep"
        )
    logits = classifier(x)
    nearest = nearest_in_hierarchy(hierarchy, classifier.classes) if hierarchy is not None else None
    wanted = choose_targets(logits, "second-best" if target == "most-confused" else target, classifier.classes, nearest)
    asked = torch.nonzero(wanted != logits.argmax(1))[:, 0]
    if not len(asked):
        raise UserError(f"all {len(x)} sampled images are already predicted as {target!r}; ask for another class")
    ids = [images.ids[i] for i in asked.tolist()]
    rung = changed(first, tau=chosen[-1].tau)

    def measure(scale: float) -> Strength:
        found = _strength(denoiser, classifier, judge, x[asked], wanted[asked], ids, changed(rung, scale=scale))
        report(f"scale {scale:g}: {found.flipped:.2f} flip")
        return found

    strengths = search(measure, first.scale or 1.0)
    return Calibration(len(x), depths, strengths, [settings(changed(rung, scale=s)) for s in rungs(strengths)])


def search(measure: Callable[[float], Strength], start: float) -> list[Strength]:
    """Scales by doubling and halving, sorted: down until few flip, up until nearly all do or more strength stops helping."""
    found = {start: measure(start)}
    scale = start
    while found[scale].flipped >= WEAK and len(found) <= DOUBLINGS:
        scale /= 2
        found[scale] = measure(scale)
    scale, tried = start, 0
    while found[scale].flipped < STRONG and tried < DOUBLINGS:
        scale, tried = scale * 2, tried + 1
        found[scale] = measure(scale)
        if found[scale].flipped < found[scale / 2].flipped - 0.1:  # too much: pictures break
            break
    return [found[scale] for scale in sorted(found)]


def rungs(strengths: list[Strength]) -> list[float]:
    """From the gentlest scale that flips half of the images to the gentlest that flips the most, and one in between if far apart.

    Raises UserError if nothing flips at any scale.
    """
    best = max(strength.flipped for strength in strengths)
    if best == 0:
        raise UserError(
            f"no image flips at any scale up to {strengths[-1].scale:g}; give the first rung more room (tau, mask or threshold), "
            "or look whether the classifier's gradients vanish"
        )
    last = next(s.scale for s in strengths if s.flipped == best)
    first = next(s.scale for s in strengths if s.flipped >= min(WEAK, best))
    between = [(first * last) ** 0.5] if last > 4 * first else []
    return list(dict.fromkeys([first, *(float(f"{scale:.2g}") for scale in between), last]))


def changed(method: Method, **settings: float) -> Method:
    """The method with other settings, checked."""
    return type(method).model_validate(method.model_dump() | settings)


def settings(method: Method) -> dict[str, Any]:
    """A rung as YAML would hold it: the method, and what is not as its defaults."""
    return {"method": method.method, **method.model_dump(mode="json", exclude_defaults=True)}


def _depths(
    prior: DDPM, classifier: Classifier, x: Tensor, ids: list[str], steps: int, keep: float, report: Report
) -> list[Depth]:
    """Ever deeper, until fewer than `keep` of the predictions survive."""
    most = deepest(prior, steps)
    timesteps, found = prior.respaced(steps).timesteps, []
    for tau in sorted({max(1, round(share * steps)) for share in DEPTHS}):
        if tau > most:
            break
        kept, distance = filtered(prior, classifier, x, ids, steps, tau)
        found.append(Depth(tau, timesteps[tau - 1], kept, distance))
        report(f"tau {tau} of {steps}: {kept:.2f} of predictions survive")
        if kept < keep:
            break
    return found


@torch.no_grad()
def _strength(
    prior: DDPM,
    classifier: Classifier,
    judge: Classifier | None,
    x: Tensor,
    target: Tensor,
    ids: list[str],
    method: Method,
) -> Strength:
    found, _ = explain_images(prior, classifier, x, target, (method,), ids, SEED, len(x))
    flipped = classifier(found.x_cf).argmax(1) == target
    judged = None
    if judge is not None:
        known = torch.tensor([judge.classes.index(name) for name in classifier.classes], device=x.device)
        judged = float((judge(found.x_cf).argmax(1) == known[target]).float().mean())
    return Strength(method.scale, float(flipped.float().mean()), judged, float((found.x_cf - x).abs().mean() / 2))
