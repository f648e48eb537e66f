"""Images of another size than what a prior draws: the change is drawn on copies, and laid on the images themselves.

x_cf = x + resize(x'_cf - x'), with x' the image at the size of the prior. What that cannot draw, fine texture say, the image
keeps, and the classifier is queried at the size at which it works in production, while a method searches and about the result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from cfx.latent_space import in_latent_space
from cfx.types import Classifier, Counterfactual, Denoiser


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """x (B, C, H, W) at another height and width: bilinear, antialiased where that is smaller."""
    return interpolate(x, size=size, mode="bilinear", antialias=True)


class AtOwnSize:
    """A classifier that is shown copies of images, and sees the images themselves with the copies' change.

    x: (B, 3, H, W) in [-1, 1]; copies: (B, 3, h, w), what x was resized to.
    """

    def __init__(self, classifier: Classifier, x: Tensor, copies: Tensor) -> None:
        self.classifier, self.x, self.copies = classifier, x, copies

    @property
    def classes(self) -> tuple[str, ...]:
        return self.classifier.classes

    @property
    def differentiable(self) -> bool:
        return self.classifier.differentiable

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, K) of the images that changed copies x (B, 3, h, w) stand for."""
        return self.classifier(self.enlarged(x))

    def seen(self, x: Tensor) -> tuple[Classifier, Tensor]:
        """The classifier itself, and the images (B, 3, H, W) that it sees for copies x."""
        return self.classifier, self.enlarged(x)

    def enlarged(self, x: Tensor) -> Tensor:
        """The images (B, 3, H, W) that changed copies x (B, 3, h, w) stand for; unchanged where the copies are."""
        return self.x + resized(x - self.copies, (self.x.shape[-2], self.x.shape[-1]))


def of_rows(classifier: Classifier, rows: Tensor) -> Classifier:
    """The classifier for some of a batch's images, by their positions or by a mask (B,)."""
    if isinstance(classifier, AtOwnSize):
        return AtOwnSize(classifier.classifier, classifier.x[rows], classifier.copies[rows])
    return classifier


def at_priors_size(
    method: Callable[..., Counterfactual], denoiser: Denoiser, classifier: Classifier, *, x: Tensor, **others: Any
) -> Counterfactual:
    """What a method finds for x (B, 3, H, W) in [-1, 1] with copies of the size that the prior draws; exactly what it finds for x
    where that is the size of x, or the prior does not say. A given `mask` (B, 1, H, W) is resized too.

    Of a prior over latents, what it finds in its latent space (`cfx.latent_space`).
    """
    size = drawn_size(denoiser, x)
    if getattr(denoiser, "autoencoder", None) is not None:
        method = partial(in_latent_space, method)
    if size is None:
        return method(denoiser, classifier, x=x, **others)
    copies = resized(x, size)
    shown = AtOwnSize(classifier, x, copies)
    if others.get("mask") is not None:
        others["mask"] = resized(others["mask"], size)
    found = method(denoiser, shown, x=copies, **others)
    mask = None if found.mask is None else resized(found.mask, (x.shape[-2], x.shape[-1]))
    return Counterfactual(shown.enlarged(found.x_cf).clamp(-1, 1), mask)


def drawn_size(denoiser: Denoiser, x: Tensor) -> tuple[int, int] | None:
    """Height and width at which a prior draws images of this shape; None where that is the shape they have."""
    said = getattr(denoiser, "drawn_size", None)  # what is no DDPM draws whatever it is given
    return None if said is None else said(x.shape[-2], x.shape[-1])
