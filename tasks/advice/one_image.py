"""One picture explained: input, counterfactual, mask and difference in one file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cfx.attributes.oracle import OracleConfig
from cfx.classifiers import AnyClassifier
from cfx.errors import UserError
from cfx.images import Size, decode_png, encode_png, read_picture
from cfx.nearest import nearest_in_hierarchy
from cfx.targets import Hierarchy, check_target, choose_targets
from tasks.stages.attributes import oracle_for
from tasks.stages.explain import Ladder, check_ladder, explain_images
from tasks.stages.predict import classifier_for
from tasks.stages.prior import denoiser_for

AMPLIFIED = 2.0  # the difference is shown times this, around grey
ENLARGED = 4


@dataclass(frozen=True)
class Explanation:
    """What became of one picture."""

    source: str
    target: str
    before: float  # probability of the target
    after: float
    flipped: bool
    changed: list[tuple[str, float, float]]  # attribute, oracle's probability before and after, where it crossed one half


@torch.no_grad()
def explain_image(
    image: Path,
    to: Path,
    prior: Path,
    classifier_config: AnyClassifier,
    oracle_config: OracleConfig,
    ladder: Ladder,
    target: str,
    hierarchy: Hierarchy | None,
    seed: int,
    size: Size,
    device: str,
) -> Explanation:
    """Explain one picture and write input | counterfactual | mask | difference to `to` as PNG.

    Raises UserError if the picture cannot be read, or is already predicted as its target, or for the target most-confused,
    which only an audit's predictions tell.
    """
    content = image.read_bytes()
    x = decode_png([read_picture(content, size, 50_000_000, 1).png]).to(device)
    classifier, oracle = classifier_for(classifier_config, device), oracle_for(oracle_config, device)
    check_ladder(ladder, classifier)
    probabilities = classifier(x).softmax(1)
    known = hierarchy if target == "nearest-in-hierarchy" else None
    if target != "most-confused":  # of which `choose_targets` says why it cannot be
        check_target(target, classifier.classes, known)
    nearest = nearest_in_hierarchy(known, classifier.classes) if known is not None else None
    source, goal = int(probabilities.argmax()), choose_targets(probabilities, target, classifier.classes, nearest)
    if int(goal) == source:
        raise UserError(f"{image} is already predicted as {classifier.classes[source]!r}; ask for another class with --target")
    image_id = hashlib.sha256(content).hexdigest()
    found, _ = explain_images(denoiser_for(prior, device), classifier, x, goal, ladder, [image_id], seed, 1)
    to.write_bytes(_panel(x, found.x_cf, found.mask))
    after, had, has = classifier(found.x_cf).softmax(1), oracle(x)[0].tolist(), oracle(found.x_cf)[0].tolist()
    named = zip(oracle.attributes, had, has, strict=True)
    return Explanation(
        source=classifier.classes[source],
        target=classifier.classes[int(goal)],
        before=float(probabilities[0, goal]),
        after=float(after[0, goal]),
        flipped=int(after.argmax()) == int(goal),
        changed=[(name, p, q) for name, p, q in named if (p > 0.5) != (q > 0.5)],
    )


def _panel(x: Tensor, x_cf: Tensor, mask: Tensor) -> bytes:
    shown = [x, x_cf]
    if not mask.isnan().any():
        shown.append((mask * 2 - 1).expand_as(x))
    shown.append(((x_cf - x) / 2 * AMPLIFIED).clamp(-1, 1))
    return encode_png(interpolate(torch.cat(shown, dim=3), scale_factor=ENLARGED, mode="nearest"))[0]
