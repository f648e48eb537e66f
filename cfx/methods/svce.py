"""l1.5-SVCE (Boreiko et al. 2022, "Sparse Visual Counterfactual Explanations in Image Space") and AutoPGD (Croce & Hein 2020).

Both climb log p(target | x) inside a ball around the image, without a prior: only a classifier that is adversarially robust
makes them show more than noise.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cfx.errors import UserError
from cfx.guidance import class_loss
from cfx.random import ImageNoise
from cfx.types import Classifier, Config, Counterfactual, Denoiser


class SVCE(Config):
    """SVCE's knobs; defaults are those of the released code for ImageNet at 256 pixels."""

    steps: ClassVar[int] = 1  # no prior takes part, so any respacing will do

    method: Literal["svce"] = "svce"
    attack: Literal["afw", "apgd"] = Field("afw", description="auto Frank-Wolfe in an lp ball, or AutoPGD in an l2 ball")
    scale: float = Field(1.0, ge=0, description="weight of the class score; only its direction counts, so 0 (null run) or not")
    radii: tuple[float, ...] = Field(
        (150.0,), min_length=1, description="of the ball, on [0, 1] pixels, tried in turn; the l1.5 norm grows as pixels^(2/3)"
    )
    confidence: float = Field(0.9, ge=0, le=1, description="an image is done at the first radius where the target is so probable")
    norm: float = Field(1.5, gt=1, description="p of the ball of auto Frank-Wolfe")
    iterations: int = Field(75, ge=1, description="steps of the attack, a radius")
    patience: float = Field(0.75, ge=0, le=1, description="share of a window's steps that must rise, or the steps get shorter")

    @model_validator(mode="after")
    def _can_work(self) -> SVCE:
        if min(self.radii) <= 0 or list(self.radii) != sorted(self.radii):
            raise UserError(f"radii {self.radii} must be positive and grow, as the first that is enough is used")
        return self


@torch.no_grad()
def svce(
    denoiser: Denoiser, classifier: Classifier, x: Tensor, target: Tensor, config: SVCE, noise: ImageNoise
) -> Counterfactual:
    """The most confident image in the smallest ball that is enough; of the largest ball if none is.

    x: (B, 3, H, W) in [-1, 1]; target: (B,) class ids. No UNet evaluation and no randomness: denoiser and noise are there because
    every method takes them. iterations + 1 gradients of the classifier a radius.
    """
    x_cf = x.clone()
    pending = torch.arange(len(x), device=x.device)
    for radius in config.radii:
        start = (x[pending] + 1) / 2
        found = climb(classifier, start, target[pending], config, radius)
        x_cf[pending] = torch.where(found == start, x[pending], 2 * found - 1)  # a pixel that never moved comes back exactly
        confident = score(classifier, found, target[pending])[0].exp() > config.confidence
        pending = pending[~confident]
        if not len(pending):
            break
    return Counterfactual(x_cf.clamp(-1, 1), None)


def score(classifier: Classifier, u: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """log p(target | u), (B,), and its gradient; u: (B, 3, H, W) in [0, 1]."""
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        value = -class_loss(classifier(2 * u - 1).float(), target, "log_prob")
        (gradient,) = torch.autograd.grad(value.sum(), u)
    return value.detach(), gradient


def climb(classifier: Classifier, x: Tensor, target: Tensor, config: SVCE, radius: float) -> Tensor:
    """The best iterate of auto Frank-Wolfe or AutoPGD; x and the result are (B, 3, H, W) in [0, 1].

    Both check now and then, an image, whether too few steps rose, or whether nothing got better since a check that changed
    nothing: then its steps get shorter and it goes on from its best point.
    """
    afw = config.attack == "afw"
    pace = torch.full((len(x), 1, 1, 1), 2.0 if afw else 2 * radius, device=x.device)
    u = before = best = x
    value, gradient = score(classifier, x, target)
    gradient = config.scale * gradient
    best_value, best_gradient, best_at_check = value, gradient, value
    rose, shortened = torch.zeros_like(value), torch.ones_like(value, dtype=torch.bool)
    window, shrink, shortest = (max(1, int(share * config.iterations)) for share in (0.22, 0.03, 0.06))
    check = window
    for k in range(config.iterations):
        if afw:
            corner = x + largest_product(gradient, x, config.norm, radius)
            u, before = u + pace / (math.sqrt(k) + 2) * (corner - u), u
        else:
            ahead = project_l2(u + pace * gradient / _norm(gradient), x, radius)
            inertia = 0.75 if k else 1.0
            u, before = project_l2(u + inertia * (ahead - u) + (1 - inertia) * (u - before), x, radius), u
        previous, (value, gradient) = value, score(classifier, u, target)
        gradient = config.scale * gradient
        rose = rose + (value > previous)
        better = (value > best_value).view(-1, 1, 1, 1)
        best, best_gradient = torch.where(better, u, best), torch.where(better, gradient, best_gradient)
        best_value = torch.maximum(value, best_value)
        if k + 1 == check:
            shortened = (rose <= config.patience * window) | (~shortened & (best_value <= best_at_check))
            again = shortened.view(-1, 1, 1, 1)
            pace = torch.where(again, pace * (0.75 if afw else 0.5), pace)
            u, gradient = torch.where(again, best, u), torch.where(again, best_gradient, gradient)
            value = torch.where(shortened, best_value, value)
            rose, best_at_check = torch.zeros_like(rose), best_value
            window = max(window - shrink, shortest)
            check += window
    return best


def largest_product(gradient: Tensor, x: Tensor, p: float, radius: float) -> Tensor:
    """The delta with the largest <gradient, delta> such that |delta|_p <= radius and x + delta is in [0, 1], an image.

    |delta_i| = min(gamma_i, (s |g_i|)^(1 / (p - 1))), where gamma_i is the way to the face of the box that g_i points at. The
    norm grows with s; where it reaches the radius is read off the sorted values of s at which one more pixel meets its face.
    """
    g = gradient.double().flatten(1)
    size = (g.abs() / g.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)).contiguous()
    start = x.double().flatten(1)
    gamma = torch.where(g > 0, 1 - start, start).clamp(min=0)
    q = p / (p - 1)
    meets, order = torch.where(size > 0, gamma ** (p - 1) / size, torch.inf).sort(1)
    boxed = (gamma**p).gather(1, order).cumsum(1)  # of the pixels that have met their face
    powers = (size**q).gather(1, order)
    free = (powers.flip(1).cumsum(1).flip(1) - powers).clamp(min=0)  # of those that have not
    reached = torch.where(meets.isinf(), torch.inf, boxed + torch.where(meets.isinf(), 0, meets) ** q * free)
    count = (reached <= radius**p).sum(1, keepdim=True)  # how many pixels are at their face
    none, last = count == 0, (count - 1).clamp(min=0)
    spent = torch.where(none, 0, boxed.gather(1, last))
    left = torch.where(none, powers.sum(1, keepdim=True), free.gather(1, last))
    s = torch.where(left > 0, (radius**p - spent).clamp(min=0) / left.clamp(min=torch.finfo(torch.float64).tiny), torch.inf)
    wanted = torch.where(size > 0, s ** (1 / q) * size, 0) ** (1 / (p - 1))
    return (torch.minimum(gamma, wanted) * g.sign()).view_as(x).to(x.dtype)


def project_l2(u: Tensor, x: Tensor, radius: float) -> Tensor:
    """u drawn back into the l2 ball around x, then into [0, 1]; the second cannot leave the first, as x is in the box.

    Examples:
        >>> u = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)  # of norm 5
        >>> [round(value, 6) for value in project_l2(u, torch.zeros(1, 2, 1, 1), radius=0.5).flatten().tolist()]
        [0.3, 0.4]
    """
    delta = u - x
    return (x + delta * (radius / _norm(delta)).clamp(max=1)).clamp(0, 1)


def _norm(v: Tensor) -> Tensor:
    """The l2 norm of each image, (B, 1, 1, 1), never zero."""
    return v.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
