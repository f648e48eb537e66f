"""Images of another size than what a prior draws: the change is drawn on copies, and laid on the images themselves.

x_cf = x + resize(x'_cf - x'), with x' the image at the size of the prior. What that cannot draw, fine texture say, the image
keeps, and the classifier is queried at the size at which it works in production, while a method searches and about the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor
from torch.nn.functional import interpolate

from cfx.types import Classifier, Counterfactual, Denoiser


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """x (B, C, H, W) at another height and width: bilinear, antialiased where that is smaller."""
    return interpolate(x, size=size, mode="bilinear", antialias=True)


class Showing:
    """A classifier that is shown other images than those it is asked about."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    @property
    def classes(self) -> tuple[str, ...]:
        return self.classifier.classes

    @property
    def differentiable(self) -> bool:
        return self.classifier.differentiable

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, K) of what it is shown for images x (B, 3, h, w)."""
        return self.classifier(self.shown(x))

    def shown(self, x: Tensor) -> Tensor:
        """What it is shown for images x (B, 3, h, w), (B, 3, H, W)."""
        raise NotImplementedError


class AtOwnSize(Showing):
    """A classifier that is asked about copies of images, and shown the images themselves with the copies' change.

    x: (B, 3, H, W) in [-1, 1]; copies: (B, 3, h, w), what x was resized to.
    """

    def __init__(self, classifier: Classifier, x: Tensor, copies: Tensor) -> None:
        super().__init__(classifier)
        self.x, self.copies = x, copies

    def shown(self, x: Tensor) -> Tensor:
        """The images (B, 3, H, W) that changed copies x (B, 3, h, w) stand for; unchanged where the copies are."""
        return self.x + resized(x - self.copies, (self.x.shape[-2], self.x.shape[-1]))

    def of_rows(self, rows: Tensor) -> AtOwnSize:
        """The same for some of the images."""
        return AtOwnSize(of_rows(self.classifier, rows), self.x[rows], self.copies[rows])


Network = TypeVar("Network")  # a classifier or a denoiser


def of_rows(network: Network, rows: Tensor) -> Network:
    """A classifier or denoiser for some of a batch's images, by their positions or by a mask (B,): one that knows the batch's
    images then knows these."""
    some: Callable[[Tensor], Network] | None = getattr(network, "of_rows", None)
    return network if some is None else some(rows)


def seen(classifier: Classifier, x: Tensor) -> tuple[Classifier, Tensor]:
    """The classifier itself, and the images that it sees for x: for a method that shows it parts of them."""
    while isinstance(classifier, Showing):
        classifier, x = classifier.classifier, classifier.shown(x)
    return classifier, x


def at_priors_size(
    method: Callable[..., Counterfactual], denoiser: Denoiser, classifier: Classifier, *, x: Tensor, **others: Any
) -> Counterfactual:
    """What a method finds for x (B, 3, H, W) in [-1, 1] with copies of the size that the prior draws; exactly what it finds for x
    where that is the size of x, or the prior does not say. A given `mask` or `region` (B, 1, H, W) is resized too."""
    size = drawn_size(denoiser, x)
    if size is None:
        return method(denoiser, classifier, x=x, **others)
    copies = resized(x, size)
    shown = AtOwnSize(classifier, x, copies)
    others |= {name: resized(others[name], size) for name in ("mask", "region") if others.get(name) is not None}
    found = method(denoiser, shown, x=copies, **others)
    mask = None if found.mask is None else resized(found.mask, (x.shape[-2], x.shape[-1]))
    return Counterfactual(shown.shown(found.x_cf).clamp(-1, 1), mask)


def drawn_size(denoiser: Denoiser, x: Tensor) -> tuple[int, int] | None:
    """Height and width at which a prior draws images of this shape; None where that is the shape they have."""
    said = getattr(denoiser, "drawn_size", None)  # what is no DDPM draws whatever it is given
    return None if said is None else said(x.shape[-2], x.shape[-1])
