"""What steers a counterfactual: the class gradient, the clean estimate it is evaluated at, and the mask of what may change."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn.functional import log_softmax, max_pool2d

from cfx.errors import UserError
from cfx.types import Classifier, Denoiser


def _odd(side: int) -> int:
    if side % 2 == 0:
        raise UserError(f"{side} is even, but a square around a pixel has an odd side; use {side - 1} or {side + 1}")
    return side


Side = Annotated[int, Field(ge=1), AfterValidator(_odd)]  # of a square around a pixel, pixels
ClassLoss = Literal["logit", "log_prob", "margin"]
Consensus = Annotated[
    float | None,
    Field(
        gt=0,
        lt=180,
        description="keep the class gradient only where it is within so many degrees of the generator's own, which needs "
        "`prior.class_prompts`; one evaluation more a step. Hides what the generator does not know of a class",
    ),
]
Implicit = Callable[[Tensor, int, Tensor], Tensor]  # (z, t, target): the noise that a generator of the target's class sees in z


def class_loss(logits: Tensor, target: Tensor, loss: ClassLoss) -> Tensor:
    """Per-image loss, (B,), from logits (B, K) and class ids (B,); smaller is closer to `target`.

    `logit` is what DiME's released scripts descend: for two classes minus the log-odds, whose gradient keeps its norm when the
    classifier is sure; for more, minus the target's logit. `log_prob` is the paper's -log p(target | x). `margin` is the highest
    other logit minus the target's.
    """
    wanted = logits.gather(1, target[:, None])[:, 0]
    if loss == "margin":
        return logits.scatter(1, target[:, None], -torch.inf).amax(1) - wanted
    if loss == "log_prob":
        return -log_softmax(logits, dim=1).gather(1, target[:, None])[:, 0]
    if logits.shape[1] == 2:
        return logits.gather(1, 1 - target[:, None])[:, 0] - wanted
    return -wanted


def class_gradient(classifier: Classifier, x: Tensor, target: Tensor, loss: ClassLoss = "logit") -> Tensor:
    """Gradient of the class loss with respect to x (B, 3, H, W), shaped like x; target: (B,) class ids.

    Losses are summed over the batch, so an image's gradient does not depend on its neighbours.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        total = class_loss(classifier(x).float(), target, loss).sum()
        (gradient,) = torch.autograd.grad(total, x)
    return gradient


def seen(classifier: Classifier, x: Tensor) -> tuple[Classifier, Tensor]:
    """The classifier itself, and the images that it sees for x: for a method that shows it parts of them.

    They differ where x stands for images: smaller copies (`cfx.own_size`), latents (`cfx.latent_space`).
    """
    behind: Callable[[Tensor], tuple[Classifier, Tensor]] | None = getattr(classifier, "seen", None)
    return (classifier, x) if behind is None else behind(x)


def unit(v: Tensor) -> Tensor:
    """v (B, ...) over its norm, an image; zero stays zero."""
    return v / v.flatten(1).norm(dim=1).clamp(min=1e-22).view(-1, *[1] * (v.dim() - 1))


def rescaled(gradient: Tensor, eps: Tensor) -> Tensor:
    """The gradient with the norm of the predicted noise, an image (DVCE's adaptive weight; its paper writes the mean's norm)."""
    return unit(gradient) * eps.detach().flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def implicit_gradient(implicit: Implicit | None, z: Tensor, t: int, target: Tensor, eps: Tensor) -> Tensor:
    """Gradient, up to a positive factor, of -log p(target | z) by the generator alone: the noise that it sees given the class
    less that which it sees given nothing, eps (B, C, h, w)   (Ho & Salimans 2022). Raises UserError without such a generator.
    """
    if implicit is None:
        raise UserError(
            "consensus asks the generator what it makes of a class; use a prior that reads prompts and set "
            "`prior.class_prompts`, or leave consensus out"
        )
    return implicit(z, t, target) - eps


def agreed(gradient: Tensor, implicit: Tensor, degrees: float) -> Tensor:
    """A classifier's gradient where the generator's implicit classifier agrees, 0 elsewhere: LDCE's consensus filter   (Farid et
    al. 2023, arXiv:2310.06668).

    gradient, implicit: (B, C, h, w). They agree at a position where the angle between their C numbers is at most `degrees`.

    Examples:
        >>> gradient = torch.tensor([[1.0, 2.0], [0.0, 2.0]]).view(1, 2, 1, 2)  # (1, 0) and (2, 2)
        >>> implicit = torch.tensor([[3.0, 0.0], [0.0, -1.0]]).view(1, 2, 1, 2)  # (3, 0) and (0, -1)
        >>> agreed(gradient, implicit, 45).flatten(2).tolist()
        [[[1.0, 0.0], [0.0, 0.0]]]
    """
    cosine = torch.cosine_similarity(gradient, implicit, dim=1)[:, None]
    return torch.where(cosine >= math.cos(math.radians(degrees)), gradient, 0)


def changed_region(x: Tensor, x_cf: Tensor, threshold: float, dilation: int) -> Tensor:
    """1 where x_cf departs from x, 0 where x should be kept; (B, 1, H, W) float.

    Channel-summed difference over its largest value in the image, dilated by a `dilation` x `dilation` square, kept at or above
    `threshold`. Identical images have an empty region (the released code divides 0 by 0 there).
    """
    difference = (x_cf - x).abs().sum(1, keepdim=True)
    largest = difference.amax((1, 2, 3), keepdim=True)
    share = difference / largest.clamp(min=torch.finfo(difference.dtype).tiny)
    return (max_pool2d(share, dilation, stride=1, padding=dilation // 2) >= threshold).to(x.dtype)


def clean_estimate(denoiser: Denoiser, z: Tensor, eps: Tensor, t: int) -> Tensor:
    """The clean estimate at step t, whether or not the denoiser clips its own: (z - sqrt(1 - abar) eps) / sqrt(abar)."""
    level = float(denoiser.alphas_cumprod[t])
    return (z - math.sqrt(1 - level) * eps) / math.sqrt(level)


def posterior_mean(denoiser: Denoiser, z: Tensor, x0: Tensor, t: int) -> Tensor:
    """Mean of q(z_{t-1} | z_t, x0)   (Ho et al. 2020, eq. 7); x0 itself at t = 0."""
    level = float(denoiser.alphas_cumprod[t])
    before = float(denoiser.alphas_cumprod[t - 1]) if t else 1.0
    kept = level / before  # 1 - beta
    return ((1 - kept) * math.sqrt(before) * x0 + (1 - before) * math.sqrt(kept) * z) / (1 - level)


def in_range(denoiser: Denoiser, x: Tensor) -> Tensor:
    """x in [-1, 1], as images are; as it is where the denoiser draws latents, which have no range."""
    return x if getattr(denoiser, "autoencoder", None) is not None else x.clamp(-1, 1)
