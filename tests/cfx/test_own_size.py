"""Images of another size than the prior's: the change is drawn on copies and laid on the images, which keep all else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from cfx.diffusion.ddpm import DDPM, Schedule
from cfx.methods.ace import ACE, ace
from cfx.methods.blended import Blended, blended
from cfx.methods.dime import DiME, FastDiME, dime, fastdime
from cfx.methods.dvce import DVCE, dvce
from cfx.methods.maskdime import MaskDiME, maskdime
from cfx.own_size import AtOwnSize, at_priors_size, drawn_size, resized
from cfx.random import ImageNoise
from cfx.types import Classifier, Counterfactual, Denoiser
from tests.toys import GaussianNetwork, Linear, gaussian_prior

IDS = ["a", "b", "c"]
METHODS: list[tuple[Callable[..., Counterfactual], Any]] = [
    (dime, DiME(steps=20, tau=4, scale=20)),
    (fastdime, FastDiME(steps=20, tau=4, scale=20)),
    (maskdime, MaskDiME(steps=20, tau=4, scale=20)),
    (ace, ACE(steps=20, tau=2, iterations=6, refinements=2, step_size=0.05)),
    (dvce, DVCE(steps=20, tau=4, augmentations=2)),
    (blended, Blended(steps=20, tau=4, augmentations=2)),
]


class Of16(GaussianNetwork):
    config: ClassVar = {"sample_size": 16}


def prior_of_16(steps: int = 20) -> DDPM:
    """Draws 16 x 16 px, as its UNet's configuration would say."""
    return DDPM(Of16(), Schedule(prediction_type="sample"), channels=3, steps=steps)


class Upper(Linear):
    """Sees images of one size only: bright above is `high`."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__(height)
        self.weight, self.shown = torch.zeros(3, height, width), set[tuple[int, ...]]()
        self.weight[:, : height // 2] = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        self.shown.add(tuple(x.shape[1:]))
        return super().__call__(x)


def images(height: int, width: int) -> Tensor:
    return (torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(3)) - 0.8).clamp(-1, 1)


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [((16, 16), None), ((32, 32), (16, 16)), ((48, 32), (16, 11)), ((8, 16), None), ((8, 8), (16, 16)), ((300, 225), (16, 12))],
)
def test_the_longer_side_is_the_priors(shape: tuple[int, int], drawn: tuple[int, int] | None) -> None:
    assert drawn_size(prior_of_16(), torch.zeros(1, 3, *shape)) == drawn
    assert drawn_size(gaussian_prior(), torch.zeros(1, 3, *shape)) is None, "a prior that does not say draws what it is given"


@pytest.mark.parametrize(("method", "config"), METHODS, ids=lambda part: getattr(part, "__name__", ""))
def test_where_sizes_are_equal_nothing_is_resized(method: Callable[..., Counterfactual], config: Any) -> None:
    x, target, classifier = images(16, 16), torch.ones(3, dtype=torch.long), Upper(16, 16)
    direct = method(prior_of_16(), classifier, x=x, target=target, config=config, noise=ImageNoise.of(IDS, 0))
    found = at_priors_size(method, prior_of_16(), classifier, x=x, target=target, config=config, noise=ImageNoise.of(IDS, 0))
    assert torch.equal(found.x_cf, direct.x_cf)


@pytest.mark.parametrize(("method", "config"), METHODS, ids=lambda part: getattr(part, "__name__", ""))
@pytest.mark.parametrize("shape", [(40, 24), (8, 8)], ids=["larger", "smaller"])
def test_every_method_moves_a_classifier_of_another_size_and_keeps_fine_texture(
    method: Callable[..., Counterfactual], config: Any, shape: tuple[int, int]
) -> None:
    x, target, classifier = images(*shape), torch.ones(3, dtype=torch.long), Upper(*shape)
    found = at_priors_size(method, prior_of_16(), classifier, x=x, target=target, config=config, noise=ImageNoise.of(IDS, 0))
    if method not in (dvce, blended):  # their views are of the enlarged images, of a size of their own
        assert classifier.shown == {(3, *shape)}
    assert found.x_cf.shape == x.shape and (found.mask is None or found.mask.shape == (3, 1, *shape))
    before, after = (classifier(image)[:, 1] for image in (x, found.x_cf))
    assert (after > before).all()
    inside = (found.x_cf.abs() < 1) & (x.abs() < 1)
    blurred = resized(resized(found.x_cf - x, drawn_size(prior_of_16(), x) or shape), shape)
    if shape[0] > 16:
        assert ((found.x_cf - x - blurred)[inside]).abs().mean() < 0.5 * (x - resized(resized(x, (16, 10)), shape)).abs().mean()


@pytest.mark.parametrize(("method", "config"), METHODS, ids=lambda part: getattr(part, "__name__", ""))
def test_an_image_does_not_depend_on_its_batch(method: Callable[..., Counterfactual], config: Any) -> None:
    x, target, classifier = images(40, 24), torch.ones(3, dtype=torch.long), Upper(40, 24)
    together = at_priors_size(method, prior_of_16(), classifier, x=x, target=target, config=config, noise=ImageNoise.of(IDS, 0))
    alone = at_priors_size(
        method, prior_of_16(), classifier, x=x[1:2], target=target[1:2], config=config, noise=ImageNoise.of(IDS[1:2], 0)
    )
    assert (alone.x_cf - together.x_cf[1:2]).abs().max() < 1e-5


def test_what_is_laid_on_is_the_copies_change() -> None:
    """x_cf = x + resize(x'_cf - x'): a method that lightens its copies by .2 lightens the image by .2, texture and all."""

    def lighten(denoiser: Denoiser, classifier: Classifier, x: Tensor) -> Counterfactual:
        assert x.shape == (3, 3, 16, 10) and isinstance(classifier, AtOwnSize)
        assert (classifier.classes, classifier.differentiable) == (("low", "high"), True)
        assert classifier(x + 0.2) == pytest.approx(Upper(40, 24)(images(40, 24) + 0.2), abs=1e-4)
        return Counterfactual(x + 0.2, None)

    found = at_priors_size(lighten, prior_of_16(), Upper(40, 24), x=images(40, 24))
    assert torch.allclose(found.x_cf, (images(40, 24) + 0.2).clamp(-1, 1), atol=1e-6)
