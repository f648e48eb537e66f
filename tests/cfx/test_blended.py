"""Blended Diffusion on an exact prior and a linear classifier."""

import pytest
import torch
from pydantic import ValidationError

from cfx.diffusion.schedule import q_sample
from cfx.methods.blended import Blended, blended
from cfx.methods.dime import denoise
from cfx.random import ImageNoise
from tests.cfx.counting import counted_prior
from tests.toys import Linear, gaussian_prior

IDS = [f"image-{i}" for i in range(4)]
CLASSIFIER = Linear()
UP = torch.ones(4, dtype=torch.long)
TOY = Blended(steps=50, tau=12, squared=10, augmentations=3)
FREE = {"scale": 0.0, "squared": 0.0, "overshoot": 0.0}


def images(n: int = 4) -> torch.Tensor:
    return (torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.3).clamp(-1, 1)


@pytest.mark.parametrize("wanted", [0, 1])
def test_guidance_moves_towards_the_target(wanted: int) -> None:
    x, target, prior = images(), torch.full((4,), wanted), gaussian_prior()
    guided = blended(prior, CLASSIFIER, x, target, TOY, ImageNoise.of(IDS, 0)).x_cf
    null = blended(prior, CLASSIFIER, x, target, TOY.model_copy(update={"scale": 0.0}), ImageNoise.of(IDS, 0)).x_cf
    moved = (CLASSIFIER(guided) - CLASSIFIER(null))[:, 1]
    assert (moved > 0.05).all() if wanted else (moved < -0.05).all()


def test_without_losses_it_is_noising_and_denoising() -> None:
    x, (prior, _) = images(), counted_prior(clip=False)
    noise = ImageNoise.of(IDS, 0)
    with torch.no_grad():
        expected = denoise(prior, q_sample(prior, x, 9, noise), 9, noise)
    method = Blended(steps=50, tau=10, augmentations=1, **FREE)
    found = blended(prior, CLASSIFIER, x, UP, method, ImageNoise.of(IDS, 0))
    torch.testing.assert_close(found.x_cf, expected.clamp(-1, 1), atol=1e-5, rtol=0)


def test_the_squared_difference_and_the_passed_distance_pull_towards_the_input() -> None:
    x, prior = images(), gaussian_prior()
    free = blended(prior, CLASSIFIER, x, UP, TOY.model_copy(update=FREE), ImageNoise.of(IDS, 0)).x_cf
    held = blended(prior, CLASSIFIER, x, UP, TOY.model_copy(update=FREE | {"squared": 2_000.0}), ImageNoise.of(IDS, 0)).x_cf
    weighed = TOY.model_copy(update=FREE | {"lpips": 2_000.0})
    passed = blended(
        prior, CLASSIFIER, x, UP, weighed, ImageNoise.of(IDS, 0), lpips=lambda a, b: (a - b).square().flatten(1).mean(1)
    ).x_cf
    assert ((held - x).abs().mean((1, 2, 3)) < (free - x).abs().mean((1, 2, 3))).all()
    torch.testing.assert_close(passed, held)


def test_overshoot_pulls_back_what_leaves_the_range_and_nothing_else() -> None:
    held = TOY.model_copy(update=FREE | {"overshoot": 1e4})
    for mean, variance, leaves in ((0.0, 1e-4, False), (0.95, 0.04, True)):
        prior = gaussian_prior(mean=mean, variance=variance)
        x = torch.full((4, 3, 8, 8), mean)
        found = [
            blended(prior, CLASSIFIER, x, UP, method, ImageNoise.of(IDS, 0)).x_cf
            for method in (TOY.model_copy(update=FREE), held)
        ]
        assert torch.equal(*found) is not leaves
        assert bool(found[1].mean() < found[0].mean()) is leaves


def test_unet_evaluations_an_image() -> None:
    prior, network = counted_prior(steps=100)
    network.requires_grad_(False)
    blended(prior, CLASSIFIER, images(2), UP[:2], Blended(augmentations=1), ImageNoise.of(IDS[:2], 0))
    assert (network.forwards // 2, network.backwards // 2) == (75, 74)  # the last step's clean estimate is the result


def test_result_does_not_depend_on_the_batch() -> None:
    x, prior = images(), gaussian_prior()
    together = blended(prior, CLASSIFIER, x, UP, TOY, ImageNoise.of(IDS, 5)).x_cf
    for i in range(4):
        alone = blended(prior, CLASSIFIER, x[i : i + 1], UP[:1], TOY, ImageNoise.of([IDS[i]], 5)).x_cf
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)


def test_what_cannot_work_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="tau is 75, but the prior is respaced to 50"):
        Blended(steps=50)
    with pytest.raises(ValidationError, match="lpips is 1000.0, which needs VGG16"):
        Blended(lpips=1000)
    method = TOY.model_copy(update={"lpips": 1000.0})
    with pytest.raises(ValueError, match="pass `lpips`"):
        blended(gaussian_prior(), CLASSIFIER, images(), UP, method, ImageNoise.of(IDS, 0))
