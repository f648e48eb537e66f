"""Choosing a ladder: how deep to noise so that predictions survive, then how hard to guide, on a few of the audit's images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from cfx.diffusion.ddpm import DDPM
from cfx.errors import UserError
from cfx.nearest import nearest_in_hierarchy
from cfx.targets import choose_targets
from cfx.types import Classifier
from tasks.advice.prior_check import deepest
from tasks.advice.prior_fit import filtered
from tasks.check import loaded_prior
from tasks.config import AuditConfig, Method
from tasks.data.ingest import sample
from tasks.explainer import Explainer, Targets, check_ladder, explain_images
from tasks.networks import classifier_for
from tasks.shard_images import Images

DEPTHS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.36, 0.42, 0.5, 0.6, 0.7)  # tau as a share of the steps
WEAK, STRONG = 0.5, 0.98  # flip rates that the ladder's first and last rung are looked for at
DOUBLINGS = 6
SEED = 0

Report = Callable[[str], None]


class Depth(NamedTuple):
    """What noising to tau and denoising does without guidance."""

    tau: int
    timestep: float  # of the prior's original steps; a flow's lie between
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


class Subject(NamedTuple):
    """What is calibrated: on which images, with which networks."""

    prior: DDPM
    classifier: Classifier
    judge: Classifier | None
    images: Images


def calibrate(config: AuditConfig, n: int, keep: float, device: str, report: Report = lambda line: None) -> Calibration:
    """A ladder for this audit: the deepest tau up to which a share `keep` of predictions survives, and one to three scales.

    Measured on n of its images. All else is as in the ladder's first rung. Of the target most-confused, which needs all
    predictions, the runner-up stands in. `report` hears of each measurement. Raises UserError for a method without noise, for a
    black box, and if no prediction survives or none flips.
    """
    first = config.ladder[0]
    if not hasattr(first, "tau"):
        raise UserError(f"method {first.method!r} adds no noise, so there is no tau to calibrate; choose its radii by hand")
    subject = _subject(config, n, device)
    check_ladder(config.ladder, subject.classifier)
    depths = _depths(subject, first.steps, keep, report)
    chosen = [depth for depth in depths if depth.kept >= keep]
    if not chosen:
        raise UserError(
            f"even at tau {depths[0].tau} of {first.steps} only {depths[0].kept:.0%} of predictions survive noising and "
            "denoising; the prior does not fit these images, or was imported with other arguments than it was trained with; "
            "or lower --keep"
        )
    targets = _targets(config, subject)
    rung = changed(first, tau=chosen[-1].tau)

    def measure(scale: float) -> Strength:
        found = _strength(subject, targets, changed(rung, scale=scale))
        report(f"scale {scale:g}: {found.flipped:.2f} flip")
        return found

    strengths = search(measure, first.scale or 1.0)
    return Calibration(len(subject.images.ids), depths, strengths, [settings(changed(rung, scale=s)) for s in rungs(strengths)])


def _subject(config: AuditConfig, n: int, device: str) -> Subject:
    images = sample(config.data, n)
    judge = classifier_for(config.judge, device) if config.judge is not None else None
    classifier = classifier_for(config.classifier, device)
    return Subject(loaded_prior(config, device), classifier, judge, Images(images.ids, images.x.to(device)))


def _targets(config: AuditConfig, subject: Subject) -> Targets:
    """The sampled images that are not yet predicted as their target. Raises UserError if there is none."""
    classes, (ids, x) = subject.classifier.classes, subject.images
    logits = subject.classifier(x)
    nearest = nearest_in_hierarchy(config.hierarchy, classes) if config.hierarchy is not None else None
    policy = "second-best" if config.target == "most-confused" else config.target
    target = choose_targets(logits, policy, classes, nearest, ids)
    wanted = torch.nonzero(target != logits.argmax(1))[:, 0]
    if not len(wanted):
        raise UserError(f"all {len(x)} sampled images are already predicted as {config.target!r}; choose another class")
    return Targets([ids[i] for i in wanted.tolist()], x[wanted], target[wanted])


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
        if found[scale].flipped < found[scale / 2].flipped - 0.1:  # too much: images break
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


def _depths(subject: Subject, steps: int, keep: float, report: Report) -> list[Depth]:
    """Ever deeper, until fewer than `keep` of the predictions survive."""
    most = deepest(subject.prior, steps)
    timesteps, found = subject.prior.respaced(steps).timesteps, []
    for tau in sorted({max(1, round(share * steps)) for share in DEPTHS}):
        if tau > most:
            break
        at = filtered(subject.prior, subject.classifier, subject.images, steps, tau)
        kept = at.kept or 0.0
        found.append(Depth(tau, timesteps[tau - 1], kept, at.change.distance))
        report(f"tau {tau} of {steps}: {kept:.2f} of predictions survive")
        if kept < keep:
            break
    return found


@torch.no_grad()
def _strength(subject: Subject, targets: Targets, method: Method) -> Strength:
    classifier, judge, target = subject.classifier, subject.judge, targets.target
    explainer = Explainer(subject.prior, classifier, (method,), len(target))
    found, _ = explain_images(explainer, targets, SEED)
    flipped = classifier(found.x_cf).argmax(1) == target
    judged = None
    if judge is not None:
        known = torch.tensor([judge.classes.index(name) for name in classifier.classes], device=target.device)
        judged = float((judge(found.x_cf).argmax(1) == known[target]).float().mean())
    return Strength(method.scale, float(flipped.float().mean()), judged, float((found.x_cf - targets.x).abs().mean() / 2))
