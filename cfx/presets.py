"""Ladders by name: this project's `default`, and the published settings of every method, by method and data set.

A scale with several values is a ladder: those that did not flip are tried again with the next. Image sizes and the priors'
original steps: CelebA 128 px, 500 steps; CelebA-HQ 256 px, 500; BDD 256 x 512, 1000; ImageNet 256 px, 1000.

A paper's ladder runs in this project's loops. With `as_released: true` it does what the released command did where that differs,
for a comparison with published numbers (docs/explanation/methods.md has the table).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cfx.errors import UserError
from cfx.methods.ace import ACE
from cfx.methods.blended import Blended
from cfx.methods.dime import DiME, FastDiME
from cfx.methods.dvce import DVCE
from cfx.methods.maskdime import MaskDiME
from cfx.methods.svce import SVCE

WhiteBox = DiME | FastDiME | MaskDiME | ACE | DVCE | SVCE | Blended


class Published(NamedTuple):
    """One row of a paper: a method's settings, and the scales tried in turn (none: the default scale, once)."""

    method: type[WhiteBox]
    settings: dict[str, object]
    scales: tuple[float, ...] = ()


# DiME's released code noises to step tau and denoises from tau - 1; perceptual 30 and l1 .05 are the paper's, section 3.3.
DIME: dict[str, object] = {"steps": 200, "exact_start": False, "perceptual": 30.0, "l1": 0.05, "loss": "logit"}
# FastDiME's released CelebA script: 60 of 200 steps, mask from step 30 on, threshold .15, square of 5 pixels.
FASTDIME: dict[str, object] = {"steps": 200, "tau": 60, "perceptual": 30.0, "l1": 0.05, "threshold": 0.15, "dilation": 5}
# MaskDiME's released script: the mean inside the mask (no noise), no gradient clipping, scales as DiME's.
MASKDIME: dict[str, object] = {"steps": 200, "tau": 60, "perceptual": 30.0, "l1": 0.05, "dilation": 5}
# ACE's released scripts: sign steps of 1/255 without an effective bound; a lost flip stays lost. CelebA runs three at a time.
ACE_RELEASED: dict[str, object] = {
    "tau": 5,
    "step_size": 1 / 255,
    "epsilon": 1.0,
    "dilation": 15,
    "refinements": 1,
    "fallback": False,
    "batch": 1,
}
ACE_L1 = ACE_RELEASED | {"distance": "l1", "distance_weight": 0.001}
ACE_L2 = ACE_RELEASED | {"distance": "l2", "distance_weight": 0.1}
# DVCE, paper section 3.3 and released command; with the cone, 16 views and the robust network's temperature.
DVCE_ALONE: dict[str, object] = {"steps": 200, "tau": 100, "distance": 0.15, "distance_gradient": "unet"}
DVCE_CONE = DVCE_ALONE | {"angle": 30.0, "augmentations": 16, "robust_temperature": 0.71557611}

PAPER: dict[tuple[str, str], Published] = {
    # DiME: CelebA from the released script and the paper; CelebA-HQ and BDD from the thesis, chapter 3.
    ("dime", "celeba"): Published(DiME, DIME | {"tau": 60}, (8.0, 10.0, 15.0)),
    ("dime", "celebahq"): Published(DiME, DIME | {"tau": 60}, (25.0, 30.0, 40.0)),
    ("dime", "bdd"): Published(DiME, DIME | {"tau": 45}, (50.0, 55.0)),
    # FastDiME: the released CelebA script; no other data set was published with these networks.
    ("fastdime", "celeba"): Published(FastDiME, FASTDIME, (8.0, 10.0, 15.0)),
    ("fastdime-2", "celeba"): Published(FastDiME, FASTDIME | {"passes": "2"}, (8.0, 10.0, 15.0)),
    ("fastdime-2+", "celeba"): Published(FastDiME, FASTDIME | {"passes": "2+"}, (8.0, 10.0, 15.0)),
    # MaskDiME: strength and shares from the paper; the ladder is the released CelebA script's throughout. The BDD prior was
    # trained on its first 250 of 1000 steps only, so BDD starts at 45 of 200 (step 221), as DiME does there. ImageNet compares
    # the target with one other class; the margin to the highest other logit is that, for an image predicted as the other.
    ("maskdime", "celeba-smile"): Published(MaskDiME, MASKDIME | {"strength": 8.0, "share": 0.05}, (8.0, 10.0, 15.0)),
    ("maskdime", "celeba-age"): Published(MaskDiME, MASKDIME | {"strength": 8.0, "share": 0.1}, (8.0, 10.0, 15.0)),
    ("maskdime", "celebahq-smile"): Published(
        MaskDiME, MASKDIME | {"strength": 10.0, "share": 0.05, "seen_share": 0.25}, (8.0, 10.0, 15.0)
    ),
    ("maskdime", "celebahq-age"): Published(
        MaskDiME, MASKDIME | {"strength": 10.0, "share": 0.1, "seen_share": 0.25}, (8.0, 10.0, 15.0)
    ),
    ("maskdime", "bdd"): Published(MaskDiME, MASKDIME | {"tau": 45, "strength": 14.0, "share": 0.1}, (8.0, 10.0, 15.0)),
    ("maskdime", "imagenet"): Published(
        MaskDiME, MASKDIME | {"strength": 6.5, "share": 0.1, "loss": "margin"}, (8.0, 10.0, 15.0)
    ),
    # ACE: steps, threshold and iterations from the released scripts; 50 iterations in the paper, 100 for ImageNet in the script.
    ("ace-l1", "celeba"): Published(ACE, ACE_L1 | {"steps": 50, "threshold": 0.15, "iterations": 50, "batch": 3}),
    ("ace-l2", "celeba"): Published(ACE, ACE_L2 | {"steps": 50, "threshold": 0.15, "iterations": 50, "batch": 3}),
    ("ace-l1", "celebahq-smile"): Published(ACE, ACE_L1 | {"steps": 25, "threshold": 0.15, "iterations": 50}),
    ("ace-l2", "celebahq-smile"): Published(ACE, ACE_L2 | {"steps": 25, "threshold": 0.1, "iterations": 50}),
    ("ace-l1", "celebahq-age"): Published(ACE, ACE_L1 | {"steps": 25, "threshold": 0.15, "iterations": 50}),
    ("ace-l2", "celebahq-age"): Published(ACE, ACE_L2 | {"steps": 25, "threshold": 0.05, "iterations": 50}),
    ("ace-l1", "bdd"): Published(ACE, ACE_L1 | {"steps": 100, "threshold": 0.05, "iterations": 50}),
    ("ace-l2", "bdd"): Published(ACE, ACE_L2 | {"steps": 100, "threshold": 0.1, "iterations": 50}),
    ("ace-l1", "imagenet"): Published(ACE, ACE_L1 | {"steps": 25, "threshold": 0.15, "iterations": 100}),
    ("ace-l2", "imagenet"): Published(ACE, ACE_L2 | {"steps": 25, "threshold": 0.15, "iterations": 100}),
    # DVCE: alone for the robust MNR-RN50; with the cone for timm's swin_large_patch4_window7_224, convnext_large_in22ft1k and
    # tf_efficientnet_b7_ns, with the temperatures shipped for them.
    ("dvce", "imagenet"): Published(DVCE, DVCE_ALONE | {"temperature": 0.71557611}, (0.1,)),
    ("dvce-swin-l", "imagenet"): Published(DVCE, DVCE_CONE | {"temperature": 0.90162939}, (0.1,)),
    ("dvce-convnext-l", "imagenet"): Published(DVCE, DVCE_CONE | {"temperature": 0.98362738}, (0.1,)),
    ("dvce-efficientnet-b7", "imagenet"): Published(DVCE, DVCE_CONE | {"temperature": 0.83144325}, (0.1,)),
    # The baselines of DVCE's table: the smallest radius whose confidence is above .9; AutoPGD at l2 12; Blended Diffusion's
    # released weights (its paper's sweep: scale 10 and 25, LPIPS 100, 500 and 1000, squared ten times that).
    ("svce", "imagenet"): Published(SVCE, {"radii": (50.0, 75.0, 100.0, 150.0), "confidence": 0.9, "iterations": 75}),
    ("svce-apgd", "imagenet"): Published(SVCE, {"attack": "apgd", "radii": (12.0,), "iterations": 75}),
    ("blended", "imagenet"): Published(
        Blended, {"steps": 100, "tau": 75, "lpips": 1000.0, "squared": 10_000.0, "overshoot": 50.0}, (25.0,)
    ),
}

# This project's own; docs/explanation/methods.md says what it was measured against. FastDiME's one-step estimate, MaskDiME's
# masks, nine long steps without noise inside them (as DDIM's), DVCE's rescaled gradient, so that the scales fit any classifier;
# failures are pooled and tried again with more room and more force.
DEFAULT_RUNG = MaskDiME(steps=25, tau=9, strength=1.0, adaptive=True, scale=0.4, share=0.05)
DEFAULT: tuple[MaskDiME, ...] = (
    DEFAULT_RUNG,
    DEFAULT_RUNG.model_copy(update={"scale": 1.2, "share": 0.1}),
    DEFAULT_RUNG.model_copy(update={"scale": 3.6, "share": 0.1}),
)


def named(ladder: object) -> object:
    """The ladder of a name: `default`, or METHOD/DATA for a paper's. What is no name comes back as it is.

    {preset: NAME, vgg19: FILE} names what a paper's ladder reads from files, {preset: NAME, as_released: true} does what the
    released command did. Raises UserError for an unknown name.

    Examples:
        >>> [(rung.steps, rung.tau, rung.scale) for rung in named("default")]
        [(25, 9, 0.4), (25, 9, 1.2), (25, 9, 3.6)]
    """
    if isinstance(ladder, str):
        ladder = {"preset": ladder}
    if not (isinstance(ladder, Mapping) and "preset" in ladder):
        return ladder
    more = {key: value for key, value in ladder.items() if key != "preset"}
    if ladder["preset"] == "default" and not more:
        return DEFAULT
    method, _, data = str(ladder["preset"]).partition("/")
    return paper(method, data, **more)


def paper(method: str, data: str, **more: object) -> tuple[WhiteBox, ...]:
    """The published ladder of a method for a data set. What it reads from files is given by name: vgg19, vgg16, robust;
    `as_released=True` does what the released command did.

    Raises UserError listing what there is for an unknown pair, or naming the file that is missing.

    Examples:
        >>> [rung.scale for rung in paper("fastdime", "celeba", vgg19="vgg19.pth")]
        [8.0, 10.0, 15.0]
    """
    if (method, data) not in PAPER:
        known = ", ".join(f"{a}/{b}" for a, b in PAPER)
        raise UserError(f"no published settings for {method}/{data}; there are default, {known}")
    row = PAPER[method, data]
    if more.get("as_released") and "as_released" not in row.method.model_fields:
        raise UserError(f"as_released: {method}/{data} does what the released code does already; leave it out")
    if method.startswith("dvce-") and "robust" not in more:
        raise UserError(f"{method} guides with a cone; give `robust`, the configuration of an adversarially robust network")
    rungs = [{"scale": scale} for scale in row.scales] or [{}]
    return tuple(row.method.model_validate({**row.settings, **more, **rung}) for rung in rungs)
