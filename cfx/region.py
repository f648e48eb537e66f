"""Region-conditional counterfactuals: what would have to change inside this region (Sobieski et al. 2024, arXiv:2410.12591)?

Any method can be held to a region, and works inside it as ever. Three things hold it:
the prior knows what lies outside, where its state is the input noised to each step, so that what is drawn inside fits around
(Lugmayr et al. 2022, RePaint, arXiv:2201.09865; Avrahami et al. 2022, Blended Diffusion);
the classifier sees the input outside, so that no gradient leads there and a flip is due to the inside alone;
and the result is the input outside, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfx.guidance import posterior_mean, seen
from cfx.own_size import of_rows
from cfx.random import ImageNoise
from cfx.types import Classifier, Counterfactual, Denoiser, Step


class KnownOutside:
    """A denoiser that knows the images x (B, C, H, W) outside a region, (B, 1, H, W) bool; inside it the denoiser's own steps.

    noise: (B, C, H, W), standard normal: what x is noised with outside, the same at every step, as deterministic sampling has it.

    Examples:
        Outside, its clean estimate is the image, and so is its last state, whatever it is given:

        >>> from cfx.diffusion.ddpm import DDPM, Schedule
        >>> class Nothing(torch.nn.Module):
        ...     def forward(self, z, timesteps):
        ...         return torch.zeros_like(z)
        >>> prior = DDPM(Nothing(), Schedule(), channels=3, steps=10)
        >>> x, left = torch.full((1, 3, 1, 2), 0.5), torch.tensor([True, False]).view(1, 1, 1, 2)
        >>> step = KnownOutside(prior, x, left, torch.zeros_like(x)).step(torch.zeros_like(x), 0)
        >>> step.mean[0, 0].tolist(), step.x0[0, 0].tolist()
        ([[0.0, 0.5]], [[0.0, 0.5]])
    """

    def __init__(self, denoiser: Denoiser, x: Tensor, inside: Tensor, noise: Tensor) -> None:
        self._denoiser, self._x, self._inside, self._noise = denoiser, x, inside, noise
        self.alphas_cumprod = denoiser.alphas_cumprod

    def __getattr__(self, name: str) -> Any:
        """What else a method may ask a prior: its autoencoder, its size."""
        return getattr(self._denoiser, name)

    def step(self, z: Tensor, t: int) -> Step:
        """One reverse step of z (B, C, H, W) at respaced index t."""
        level = float(self.alphas_cumprod[t])
        around = math.sqrt(level) * self._x + math.sqrt(1 - level) * self._noise
        mean, std, x0, eps = self._denoiser.step(torch.where(self._inside, z, around), t)
        known = posterior_mean(self, around, self._x, t) if t else self._x
        away = (z - math.sqrt(level) * self._x) / math.sqrt(1 - level)  # of which the clean estimate of z is x
        return Step(self._both(mean, known), std, self._both(x0, self._x), self._both(eps, away))

    def of_rows(self, rows: Tensor) -> KnownOutside:
        """The same for some of the images."""
        return KnownOutside(of_rows(self._denoiser, rows), self._x[rows], self._inside[rows], self._noise[rows])

    def _both(self, inside: Tensor, outside: Tensor) -> Tensor:
        return torch.where(self._inside, inside, outside)


class SeenInside:
    """A classifier that sees what of images lies inside a region, (B, 1, H, W) bool; outside it is shown x (B, 3, H, W)."""

    def __init__(self, classifier: Classifier, x: Tensor, inside: Tensor) -> None:
        self.classifier, self._x, self._inside = classifier, x, inside

    @property
    def classes(self) -> tuple[str, ...]:
        return self.classifier.classes

    @property
    def differentiable(self) -> bool:
        return self.classifier.differentiable

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (B, K) of what of images x (B, 3, H, W) lies inside, with the input around it."""
        return self.classifier(torch.where(self._inside, x, self._x))

    def seen(self, x: Tensor) -> tuple[Classifier, Tensor]:
        """The classifier itself, and the images (B, 3, H, W) that it sees for x."""
        return seen(self.classifier, torch.where(self._inside, x, self._x))

    def of_rows(self, rows: Tensor) -> SeenInside:
        """The same for some of the images."""
        return SeenInside(of_rows(self.classifier, rows), self._x[rows], self._inside[rows])


Method = Callable[..., Counterfactual]  # (denoiser, classifier, *, x, noise, ...), of images in [-1, 1] or a prior's own space


def in_region(
    method: Method, denoiser: Any, classifier: Classifier, *, x: Tensor, region: Tensor | None = None, **others: Any
) -> Counterfactual:
    """What a method finds for x (B, 3, H, W) in [-1, 1] inside a region (B, 1, H, W), above 0 where the image may change; without
    one, in the whole image.

    method: takes a `region`, as `held` and whatever brings images to a prior's size or space around it do. Outside the region the
    result is x, bit for bit; the mask that comes with it holds nothing of the outside.

    Examples:
        A method that lightens all of an image, held to its left half:

        >>> def lighten(denoiser, classifier, *, x, region):
        ...     return Counterfactual(x + 0.5, None)
        >>> left = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
        >>> in_region(lighten, None, None, x=torch.zeros(1, 3, 1, 2), region=left).x_cf[0, 0].tolist()
        [[0.5, 0.0]]
    """
    if region is None:
        return method(denoiser, classifier, x=x, **others)
    inside = region > 0
    found = method(denoiser, SeenInside(classifier, x, inside), x=x, region=inside.to(x), **others)
    mask = inside.to(x) if found.mask is None else found.mask * inside
    return Counterfactual(torch.where(inside, found.x_cf, x), mask)


def held(
    method: Method,
    denoiser: Denoiser,
    classifier: Classifier,
    *,
    x: Tensor,
    noise: ImageNoise,
    region: Tensor | None = None,
    **others: Any,
) -> Counterfactual:
    """A method whose prior knows x (B, C, H, W), in its own space and size, outside a region (B, 1, H, W), above 0 inside.

    What x is noised with outside is what the method draws first: so its first state is the same whatever the region.
    """
    if region is not None:
        denoiser = KnownOutside(denoiser, x, region > 0, noise.copied().like(x))
    return method(denoiser, classifier, x=x, noise=noise, **others)


def unheld(
    method: Method, denoiser: Any, classifier: Classifier, *, region: Tensor | None = None, **others: Any
) -> Counterfactual:
    """A method that a prior cannot be told the outside of: what it draws there is dropped by `in_region`."""
    return method(denoiser, classifier, **others)
