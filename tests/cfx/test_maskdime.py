"""MaskDiME on an exact prior and a linear classifier."""

import math

import pytest
import torch
from pydantic import ValidationError

from cfx.diffusion.schedule import q_sample
from cfx.methods.maskdime import MaskDiME, maskdime, top_region
from cfx.random import ImageNoise
from tasks.cost import Counted
from tests.toys import Linear, gaussian_prior

IDS = [f"image-{i}" for i in range(4)]
CLASSIFIER = Linear()
TOY = MaskDiME(steps=50, tau=12, scale=4, share=0.5)


def images(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.3


class Flat(Linear):
    """A classifier without an opinion anywhere."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return super().__call__(x) * 0


@pytest.mark.parametrize("wanted", [0, 1])
def test_guidance_moves_towards_the_target(wanted: int) -> None:
    x, target, prior = images(), torch.full((4,), wanted), gaussian_prior()
    guided = maskdime(prior, CLASSIFIER, x, target, TOY, ImageNoise.of(IDS, 0)).x_cf
    null = maskdime(prior, CLASSIFIER, x, target, TOY.model_copy(update={"scale": 0.0}), ImageNoise.of(IDS, 0)).x_cf
    moved = (CLASSIFIER(guided) - CLASSIFIER(null))[:, 1]
    assert (moved > 0.1).all() if wanted else (moved < -0.1).all()


@pytest.mark.parametrize("sampled", [False, True])
def test_outside_its_mask_the_input_comes_back_exactly(sampled: bool) -> None:
    x, method = images().clamp(-1, 1), TOY.model_copy(update={"dilation": 1, "sampled": sampled})
    found = maskdime(gaussian_prior(), CLASSIFIER, x, torch.ones(4, dtype=torch.long), method, ImageNoise.of(IDS, 0))
    assert found.mask is not None
    torch.testing.assert_close(found.mask, CLASSIFIER.weight[:1].expand(4, -1, -1, -1))  # the half that the classifier looks at
    kept = (found.mask == 0).expand_as(x)
    torch.testing.assert_close(found.x_cf[kept], x[kept], atol=0, rtol=0)
    assert not torch.isclose(found.x_cf[~kept], x[~kept]).all()


def test_a_classifier_without_an_opinion_changes_nothing() -> None:
    x = images().clamp(-1, 1)
    found = maskdime(gaussian_prior(), Flat(), x, torch.ones(4, dtype=torch.long), TOY, ImageNoise.of(IDS, 0))
    assert found.mask is not None and found.mask.sum() == 0
    torch.testing.assert_close(found.x_cf, x, atol=0, rtol=0)


def test_one_step_by_hand() -> None:
    # tau 1: z = q_sample(x, 0); the mean at step 0 is the clean estimate; guidance is strength * var * scale * g / sqrt(abar)
    x, prior, target = images(1), gaussian_prior(), torch.ones(1, dtype=torch.long)
    method = MaskDiME(steps=50, tau=1, scale=3, strength=2, l1=0, share=0.5, dilation=1)
    step = prior.step(q_sample(prior, x, 0, ImageNoise.of(IDS[:1], 0)), 0)
    push = CLASSIFIER.gain * CLASSIFIER.weight / CLASSIFIER.weight.numel() / math.sqrt(prior.alphas_cumprod[0])
    expected = torch.where(CLASSIFIER.weight > 0, step.mean + 2 * step.std.square() * 3 * push, x)
    found = maskdime(prior, CLASSIFIER, x, target, method, ImageNoise.of(IDS[:1], 0))
    torch.testing.assert_close(found.x_cf, expected.clamp(-1, 1))


def test_one_adaptive_step_by_hand_whatever_the_gain() -> None:
    # the gradient's direction is that of the weights, 96 pixels of 1; its norm becomes the predicted noise's
    x, prior, target = images(1), gaussian_prior(), torch.ones(1, dtype=torch.long)
    method = MaskDiME(steps=50, tau=1, scale=0.4, strength=1, l1=0, share=0.5, dilation=1, adaptive=True)
    step = prior.step(q_sample(prior, x, 0, ImageNoise.of(IDS[:1], 0)), 0)
    pushed = step.mean + step.std.square() * 0.4 * step.eps.norm() / math.sqrt(96)
    expected = torch.where(CLASSIFIER.weight > 0, pushed, x).clamp(-1, 1)
    for gain in (0.1, 10.0, 1000.0):
        found = maskdime(prior, Linear(gain=gain), x, target, method, ImageNoise.of(IDS[:1], 0))
        torch.testing.assert_close(found.x_cf, expected)


def test_top_region_by_hand() -> None:
    saliency = torch.tensor([[9.0, 1.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]).view(1, 1, 3, 3)
    assert top_region(saliency, 1 / 9, 1).flatten().tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert top_region(saliency, 2 / 9, 1).flatten().tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 0]
    assert top_region(saliency, 1.0, 1).flatten().tolist() == [1, 1, 0, 0, 1, 0, 0, 0, 0]  # no saliency, no change
    assert top_region(saliency, 1 / 9, 3).flatten().tolist() == [1, 1, 0, 1, 1, 0, 0, 0, 0]


def test_unet_evaluations_an_image() -> None:
    method, counted = MaskDiME(), Counted(gaussian_prior(steps=200))
    maskdime(counted, CLASSIFIER, images(2), torch.ones(2, dtype=torch.long), method, ImageNoise.of(IDS[:2], 0))
    assert (counted.forward, counted.backward) == (120, 0)


@pytest.mark.parametrize("change", [{}, {"adaptive": True, "scale": 0.4, "sampled": True}])
def test_result_does_not_depend_on_the_batch(change: dict[str, object]) -> None:
    x, target, prior = images(), torch.ones(4, dtype=torch.long), gaussian_prior()
    method = TOY.model_copy(update=change)
    together = maskdime(prior, CLASSIFIER, x, target, method, ImageNoise.of(IDS, 5)).x_cf
    for i in range(4):
        alone = maskdime(prior, CLASSIFIER, x[i : i + 1], target[:1], method, ImageNoise.of([IDS[i]], 5)).x_cf
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)


def test_what_cannot_work_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="tau is 60, but the prior is respaced to 50"):
        MaskDiME(steps=50)
    with pytest.raises(ValidationError, match="4 is even, but a square around a pixel has an odd side; use 3 or 5"):
        MaskDiME(dilation=4)
    with pytest.raises(ValidationError, match=r"perceptual is 30.0, which needs VGG19: set `vgg19`"):
        MaskDiME(perceptual=30)
