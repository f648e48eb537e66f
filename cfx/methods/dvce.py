"""DVCE (Augustin et al. 2022, "Diffusion Visual Counterfactual Explanations"): guidance of constant strength, and the cone."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cfx.classifiers.torch_module import ClassifierConfig
from cfx.diffusion.inversion import Start, started
from cfx.diffusion.schedule import check_depth
from cfx.errors import UserError
from cfx.guidance import Consensus, Implicit, agreed, clean_estimate, implicit_gradient, in_range, posterior_mean, rescaled, unit
from cfx.random import ImageNoise
from cfx.random_views import Rendering, Views, draw_views, view_score
from cfx.types import Classifier, Config, Counterfactual, Denoiser


class DVCE(Config):
    """DVCE's knobs; defaults are those of the released command for a classifier that is robust itself.

    For any other classifier give `robust`, an adversarially robust network of the same classes, and 16 augmentations.
    """

    method: Literal["dvce"] = "dvce"
    steps: int = Field(200, ge=1, description="respaced steps of the prior")
    tau: int = Field(100, ge=1, description="noise depth, in respaced steps; at most `steps`")
    scale: float = Field(0.1, ge=0, description="strength of the class guidance, in lengths of the predicted noise; 0: null run")
    distance: float = Field(0.15, ge=0, description="strength of the pull towards the input, in the same unit")
    power: float = Field(1.0, ge=1, description="the distance is the mean of |x0 - x| to this power")
    distance_gradient: Literal["unet", "closed_form"] = Field(
        "unet", description="of the distance, with respect to z through the UNet (released setting) or to the clean estimate"
    )
    robust: ClassifierConfig | None = Field(
        None, description="robust network of the cone; none: the classifier under audit is robust, and guides alone"
    )
    angle: float = Field(30.0, ge=0, lt=90, description="of the cone around the classifier's gradient, degrees")
    keep_robust_inside: bool = Field(
        False, description="a robust gradient inside the cone guides as it is (paper); off: the cone's axis does (released code)"
    )
    augmentations: int = Field(
        1, ge=1, description="views of the clean estimate a class score is averaged over; 16 with the cone"
    )
    side: int = Field(224, ge=8, description="larger images are average-pooled to this many pixels for the class score")
    start: Start = "noise"
    consensus: Consensus = None
    temperature: float = Field(1.0, gt=0, description="the classifier's logits are divided by it")
    robust_temperature: float = Field(1.0, gt=0, description="the robust network's logits are divided by it")
    as_released: bool = Field(
        False,
        description="without augmentations show the classifier the whole image, resized to `side` (bicubic); with them, grey "
        "where a tilted view leaves the image, instead of its border",
    )

    @model_validator(mode="after")
    def _can_work(self) -> DVCE:
        check_depth(self.tau, self.steps)
        return self


@torch.no_grad()
def dvce(
    denoiser: Denoiser,
    classifier: Classifier,
    x: Tensor,
    target: Tensor,
    config: DVCE,
    noise: ImageNoise,
    robust: Classifier | None = None,
    implicit: Implicit | None = None,
) -> Counterfactual:
    """Guided denoising; class and distance gradients go back through the UNet and have the predicted noise's norm.

    x: (B, 3, H, W) in [-1, 1]; target: (B,) class ids. tau UNet evaluations an image, each but the last with one vector-Jacobian
    product a gradient: class, robust class, distance. The clean estimate is not clipped, whatever the denoiser does. Raises
    UserError if the configuration names a robust network and none is passed.

    Over latents (`cfx.latent_space`) views, and the robust network's, are of the decoded clean estimate, and the distance is of
    latents; of a flow no gradient goes through the network, so that every direction is that at the clean estimate.
    """
    if config.robust is not None and robust is None:
        raise UserError("the configuration names a robust network for the cone; pass it as `robust`")
    rendering = Rendering(config.side, config.as_released)
    z = started(denoiser, x, config.tau - 1, noise, config.start)
    for t in reversed(range(config.tau)):
        through_unet = t > 0 and (config.scale > 0 or (config.distance > 0 and config.distance_gradient == "unet"))
        with torch.set_grad_enabled(through_unet):
            z = z.detach().requires_grad_(through_unet)
            _, std, _, eps = denoiser.step(z, t)
            x0 = clean_estimate(denoiser, z, eps, t)
        if t == 0:
            break
        update = torch.zeros_like(z)
        # drawn whether used or not, so that the null run sees the same noise; each network has its own views
        views, robust_views = (draw_views(x, config.augmentations, noise) for _ in range(2))
        if config.scale:
            by_class = _score_gradient(classifier, x0, target, views, rendering, config.temperature)
            towards_target = _back(x0, z, by_class)
            if robust is not None:
                by_robust = _score_gradient(robust, x0, target, robust_views, rendering, config.robust_temperature)
                by_robust = _back(x0, z, by_robust)
                towards_target = project_onto_cone(by_robust, towards_target, config.angle, config.keep_robust_inside)
            if config.consensus is not None:
                with torch.no_grad():
                    of_generator = implicit_gradient(implicit, z.detach(), t, target, eps.detach())
                towards_target = agreed(towards_target, -of_generator, config.consensus)
            update += config.scale * rescaled(towards_target, eps)
        if config.distance:
            difference = x0.detach() - x
            away = difference.sign() * difference.abs().pow(config.power - 1)  # of |x0 - x|^p, up to a factor
            away = _back(x0, z, away) if config.distance_gradient == "unet" else away
            update -= config.distance * rescaled(away, eps)
        mean = posterior_mean(denoiser, z.detach(), x0.detach(), t)
        z = mean + std.detach().square() * update + std.detach() * noise.like(z)
    return Counterfactual(in_range(denoiser, x0), None)


def _score_gradient(
    classifier: Classifier, x0: Tensor, target: Tensor, views: Views, rendering: Rendering, temperature: float
) -> Tensor:
    """Gradient of the class score with respect to the clean estimate."""
    with torch.enable_grad():
        x0 = x0.detach().requires_grad_()
        score = view_score(classifier, x0, target, views, rendering, temperature)
        (gradient,) = torch.autograd.grad(score.sum(), x0)
    return gradient


def _back(x0: Tensor, z: Tensor, gradient: Tensor) -> Tensor:
    """A gradient with respect to x0 as one with respect to z, through the UNet; its graph is kept for the next."""
    (through,) = torch.autograd.grad(x0, z, gradient, retain_graph=True)
    return through


def project_onto_cone(w: Tensor, v: Tensor, degrees: float, keep_inside: bool = False) -> Tensor:
    """The direction, of unit length an image, in the cone of `degrees` around v that is nearest to w.

    w, v: (B, ...). Outside the cone: cos(alpha) v + sin(alpha) w_perp, of unit vectors; always on w's side of v (the paper's
    formula turns round for w more than 90 degrees + alpha away). Inside: v, as the released code, or w, as the paper.
    Zero where v is zero: a classifier without an opinion is not explained by another one's.

    Examples:
        A cone of 30 degrees around (1, 0); (0, 1) lies outside and comes to its edge:

        >>> w, v = torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0, 0.0]])
        >>> [round(value, 3) for value in project_onto_cone(w, v, 30).flatten().tolist()]
        [0.866, 0.5]
    """
    axis, other = unit(v), unit(w)
    cosine = (axis * other).flatten(1).sum(1).clamp(-1, 1).view(-1, *[1] * (v.dim() - 1))
    beside = other - cosine * axis
    norm = beside.flatten(1).norm(dim=1).view(cosine.shape)
    perpendicular = torch.where(norm > 1e-6, unit(beside), 0)  # of opposite gradients only rounding is left
    alpha = math.radians(degrees)
    edge = unit(math.cos(alpha) * axis + math.sin(alpha) * perpendicular)
    found = torch.where(cosine.acos() > alpha, edge, other if keep_inside else axis)
    return torch.where(v.flatten(1).any(1).view(cosine.shape), found, 0)
