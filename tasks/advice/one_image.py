"""Explain one image: its counterfactual, what changed, and input, counterfactual, mask and difference side by side."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cfx.attributes.oracle import Oracle
from cfx.attributes.words import WordsOracleConfig
from cfx.errors import UserError
from cfx.images import decode_png, encode_png, read_image
from cfx.nearest import nearest_in_hierarchy
from cfx.targets import check_target, choose_targets
from cfx.types import Classifier
from tasks.advice.words_check import calibrate_words
from tasks.check import loaded_prior
from tasks.config import AuditConfig
from tasks.explainer import Explainer, Targets, check_ladder, explain_images
from tasks.networks import classifier_for, oracle_for

AMPLIFIED = 2.0  # the difference is shown times this, around grey
ENLARGED = 4


@dataclass(frozen=True)
class Explanation:
    """What became of one image. x, x_cf: (1, 3, H, W) in [-1, 1]; mask: (1, 1, H, W) in [0, 1], NaN for a method without one."""

    source: str
    target: str
    before: float  # probability of the target
    after: float
    flipped: bool
    changed: list[tuple[str, float, float]]  # attribute, oracle's probability before and after, where it crossed one half
    x: Tensor
    x_cf: Tensor
    mask: Tensor


@torch.no_grad()
def explain_image(image: Path, config: AuditConfig, seed: int, device: str) -> Explanation:
    """Explain the image in a file towards the configuration's target.

    Raises UserError if the image cannot be read, or is already predicted as its target, or for the target most-confused,
    which only an audit's predictions tell.
    """
    content = image.read_bytes()
    x = shown_as(content, config).to(device)
    classifier, oracle = classifier_for(config.classifier, device), calibrated_oracle(config, device)
    check_ladder(config.ladder, classifier)
    probabilities = classifier(x).softmax(1)
    source, goal = int(probabilities.argmax()), _goal(config, classifier, probabilities)
    if int(goal) == source:
        raise UserError(f"{image} is already predicted as {classifier.classes[source]!r}; choose another class with --target")
    explainer = Explainer(loaded_prior(config, device), classifier, config.ladder, 1)
    found, _ = explain_images(explainer, Targets([id_of(content)], x, goal), seed)
    after = classifier(found.x_cf).softmax(1)
    return Explanation(
        source=classifier.classes[source],
        target=classifier.classes[int(goal)],
        before=float(probabilities[0, goal]),
        after=float(after[0, goal]),
        flipped=int(after.argmax()) == int(goal),
        changed=[] if oracle is None else _changed(oracle, x, found.x_cf),
        x=x,
        x_cf=found.x_cf,
        mask=found.mask,
    )


def calibrated_oracle(config: AuditConfig, device: str) -> Oracle | None:
    """The configuration's oracle, one by words calibrated; None without one."""
    if config.oracle is None:
        return None
    oracle = oracle_for(config.oracle, device)
    if isinstance(config.oracle, WordsOracleConfig):
        calibrate_words(config.oracle, oracle, config.data, device)
    return oracle


def shown_as(content: bytes, config: AuditConfig) -> Tensor:
    """An image file as an audit sees it, (1, 3, H, W) in [-1, 1]. Raises UserError if it cannot be read."""
    data = config.data
    return decode_png([read_image(content, data.size, data.max_pixels, 1, data.bits, data.resample).png])


def id_of(content: bytes) -> str:
    """What an image is known by, its noise too."""
    return hashlib.sha256(content).hexdigest()


def _goal(config: AuditConfig, classifier: Classifier, probabilities: Tensor) -> Tensor:
    """The class to explain towards, (1,)."""
    known = config.hierarchy if config.target == "nearest-in-hierarchy" else None
    if config.target != "most-confused":  # of which `choose_targets` says why it cannot be
        check_target(config.target, classifier.classes, known)
    nearest = nearest_in_hierarchy(known, classifier.classes) if known is not None else None
    return choose_targets(probabilities, config.target, classifier.classes, nearest)


def _changed(oracle: Oracle, x: Tensor, x_cf: Tensor) -> list[tuple[str, float, float]]:
    named = zip(oracle.attributes, oracle(x)[0].tolist(), oracle(x_cf)[0].tolist(), strict=True)
    return [(name, p, q) for name, p, q in named if (p > 0.5) != (q > 0.5)]


def panel(found: Explanation) -> bytes:
    """Input | counterfactual | mask | difference, as PNG."""
    shown = [found.x, found.x_cf]
    if not found.mask.isnan().any():
        shown.append((found.mask * 2 - 1).expand_as(found.x))
    shown.append(((found.x_cf - found.x) / 2 * AMPLIFIED).clamp(-1, 1))
    return encode_png(interpolate(torch.cat(shown, dim=3), scale_factor=ENLARGED, mode="nearest"))[0]
