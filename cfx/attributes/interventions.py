"""Edit one attribute alone: a counterfactual towards the oracle's attribute, and its placebo.

The oracle guides, never the classifier under audit, so that any classifier can be asked what it makes of the edit, a black box
too. An edit that also changed the mouth would say nothing about the glasses: so guidance holds every other attribute where the
oracle saw it, and each edit comes with a sham, the same redrawing of the same region towards the attributes as they are. What
the classifier says of the edit minus what it says of the sham is then due to the attribute, not to having been redrawn.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from cfx.attributes.named_edits import NamedEdits
from cfx.attributes.oracle import Oracle
from cfx.methods.dime import FastDiME, fastdime
from cfx.methods.maskdime import MaskDiME, maskdime
from cfx.own_size import at_priors_size
from cfx.random import ImageNoise
from cfx.types import Config, Denoiser, Edit


class Interventions(Config):
    """Edits of one attribute alone (MaskDiME guided by the oracle), and how many of them to ask the classifier about."""

    images: int = Field(32, ge=0, description="images that each attribute is edited on, drawn alike in every label; 0 for none")
    attributes: int | None = Field(
        None,
        ge=0,
        description="attributes to edit, each on where it is off and off where it is on: those above the null first, then the "
        "largest effects; null: up to twelve, of a black box with a budget as many as a fifth of it allows. What is not "
        "edited is not tested",
    )
    steps: int = Field(50, ge=1, description="respaced steps of the prior")
    tau: int = Field(10, ge=1, description="noise depth, in respaced steps; an edit redraws, so no deeper than it must be")
    scale: float = Field(8.0, gt=0, description="weight of the oracle's gradient")
    share: float = Field(0.05, gt=0, le=1, description="share of the pixels that may change before dilation")
    side: float = Field(
        0.1, ge=0, le=1, description="an edit that changes another attribute's probability by more is not counted"
    )
    named: NamedEdits | None = Field(
        None,
        description="edit by the attributes' words, with a text-to-image model; default: by the oracle's gradient (steps, "
        "tau, scale, share)",
    )


class Wanted:
    """The oracle as a classifier of "these attributes, all of them" against "not yet".

    signs: (B, A), 1 where an attribute should be there, -1 where not. The log-odds are those of the attribute to be edited, less
    what is missing for each of the others to be as certain as `CERTAIN`.
    """

    classes: tuple[str, ...] = ("not_yet", "wanted")
    differentiable = True
    CERTAIN = 3.0  # log-odds: a probability of .95

    def __init__(self, oracle: Oracle, signs: Tensor, attribute: int) -> None:
        self._oracle, self._signs, self._attribute = oracle, signs, attribute

    def __call__(self, x: Tensor) -> Tensor:
        agreement = self._oracle.logits(x) * self._signs
        missing = softplus(self.CERTAIN - agreement)
        others = missing.sum(1) - missing[:, self._attribute]
        log_odds = agreement[:, self._attribute] - others
        return torch.stack([torch.zeros_like(log_odds), log_odds], dim=1)


@torch.no_grad()
def edit_alone(
    denoiser: Denoiser, oracle: Oracle, x: Tensor, attribute: int, config: Interventions, image_ids: list[str]
) -> Edit:
    """Toggle one attribute of x (B, 3, H, W) in [-1, 1], by its position in `oracle.attributes`, and nothing else.

    Edit and sham draw the same noise, of the image and the attribute. 2 tau UNet evaluations an image.
    """
    as_they_are = oracle.logits(x).sign()
    toggled = as_they_are.clone()
    toggled[:, attribute] *= -1
    wanted = torch.ones(len(x), dtype=torch.long, device=x.device)

    def noise() -> ImageNoise:
        return ImageNoise.of(image_ids, attribute)

    redraw = MaskDiME(steps=config.steps, tau=config.tau, scale=config.scale, share=config.share)
    on = at_priors_size(maskdime, denoiser, Wanted(oracle, toggled, attribute), x=x, target=wanted, config=redraw, noise=noise())
    assert on.mask is not None
    again = FastDiME(steps=config.steps, tau=config.tau, scale=config.scale)
    still = Wanted(oracle, as_they_are, attribute)
    sham = at_priors_size(fastdime, denoiser, still, x=x, target=wanted, config=again, noise=noise(), mask=on.mask)
    return Edit(on.x_cf, sham.x_cf, on.mask)
