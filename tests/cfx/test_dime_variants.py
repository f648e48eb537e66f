"""DiME's ablations, its perceptual term, and FastDiME in two passes, on an exact prior and a linear classifier."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from cfx.diffusion.schedule import q_sample
from cfx.guidance import changed_region, class_gradient, class_loss
from cfx.methods.ace import ACE
from cfx.methods.blended import Blended
from cfx.methods.dime import DiME, FastDiME, denoise, dime, fastdime, rectangle
from cfx.methods.dvce import DVCE
from cfx.methods.maskdime import MaskDiME, maskdime
from cfx.methods.time_edit import TIME
from cfx.random import ImageNoise
from cfx.types import Config
from tasks.cost import Counted
from tests.toys import Linear, gaussian_prior

IDS = [f"image-{i}" for i in range(4)]
CLASSIFIER = Linear()
UP = torch.ones(4, dtype=torch.long)
TOY = DiME(steps=50, tau=8, scale=20)


def images(n: int = 4) -> torch.Tensor:
    return (torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.3).clamp(-1, 1)


def noise(seed: int = 0) -> ImageNoise:
    return ImageNoise.of(IDS, seed)


class Bent(Linear):
    """A classifier whose gradient depends on where it is evaluated."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return super().__call__(x.pow(3) + x)


@pytest.mark.parametrize("guide", ["noisy", "input"])
def test_direct_and_naive_take_the_gradient_elsewhere_by_hand(guide: str) -> None:
    x, prior, method = images(), gaussian_prior(), DiME(steps=50, tau=1, scale=5, l1=0, guide=guide)
    z = q_sample(prior, x, 0, noise())
    mean, std, _, _ = prior.step(z, 0)
    gradient = (
        class_gradient(Bent(), z, UP) if guide == "noisy" else class_gradient(Bent(), x, UP) / math.sqrt(prior.alphas_cumprod[0])
    )
    found = dime(prior, Bent(), x, UP, method, noise())
    torch.testing.assert_close(found.x_cf, (mean - std.square() * 5 * gradient).clamp(-1, 1))


@pytest.mark.parametrize(
    ("change", "evaluations"), [({"guide": "noisy"}, 8), ({"guide": "input"}, 8), ({"guided_steps": 3}, 3 + 7 + 6 + 5), ({}, 36)]
)
def test_unet_evaluations_of_the_variants(change: dict[str, object], evaluations: int) -> None:
    counted = Counted(gaussian_prior())
    dime(counted, CLASSIFIER, images(), UP, TOY.model_copy(update=change), noise())
    assert counted.forward == 4 * evaluations


def test_unconditional_is_noising_and_denoising() -> None:
    x, prior, method = images(), gaussian_prior(), DiME(steps=50, tau=8, guide="input", scale=0, l1=0)
    drawn = noise()
    with torch.no_grad():
        expected = denoise(prior, q_sample(prior, x, 7, drawn), 7, drawn)
    torch.testing.assert_close(dime(prior, CLASSIFIER, x, UP, method, noise()).x_cf, expected.clamp(-1, 1))


def test_stopping_early_returns_the_first_denoised_image_that_flips() -> None:
    x, prior = images() - 0.1, gaussian_prior()
    method = TOY.model_copy(update={"early_stopping": True, "tau": 20})
    found = dime(prior, CLASSIFIER, x, UP, method, noise()).x_cf
    to_the_end = dime(prior, CLASSIFIER, x, UP, method.model_copy(update={"early_stopping": False}), noise()).x_cf
    assert (CLASSIFIER(found).argmax(1) == 1).all()
    assert (CLASSIFIER(found)[:, 1] < CLASSIFIER(to_the_end)[:, 1]).all()  # it stops at the border
    for i in range(4):  # whoever else goes on
        alone = dime(prior, CLASSIFIER, x[i : i + 1], UP[:1], method, ImageNoise.of([IDS[i]], 0)).x_cf
        torch.testing.assert_close(alone[0], found[i], atol=1e-5, rtol=0)


def test_a_region_keeps_what_lies_outside_it() -> None:
    x, method = images(), TOY.model_copy(update={"region": (0.0, 0.5, 0.25, 1.0)})
    found = dime(gaussian_prior(), CLASSIFIER, x, UP, method, noise())
    assert found.mask is not None
    assert found.mask[0, 0].sum() == 4 * 6 and found.mask[0, 0, :4, 2:].min() == 1
    kept = (found.mask == 0).expand_as(x)
    torch.testing.assert_close(found.x_cf[kept], x[kept], atol=0, rtol=0)
    null = dime(gaussian_prior(), CLASSIFIER, x, UP, method.model_copy(update={"scale": 0.0}), noise())
    assert (CLASSIFIER(found.x_cf)[:, 1] > CLASSIFIER(null.x_cf)[:, 1]).all()


def test_a_region_of_everything_changes_nothing_that_is_seen() -> None:
    assert rectangle(images(), None).min() == 1
    x, whole = images(), TOY.model_copy(update={"region": (0.0, 1.0, 0.0, 1.0), "tau": 1})
    free = dime(gaussian_prior(), CLASSIFIER, x, UP, TOY.model_copy(update={"tau": 1}), noise()).x_cf
    torch.testing.assert_close(dime(gaussian_prior(), CLASSIFIER, x, UP, whole, noise()).x_cf, free)


@pytest.mark.parametrize(
    ("run", "method"),
    [(dime, TOY), (fastdime, FastDiME(steps=50, tau=8)), (maskdime, MaskDiME(steps=50, tau=8, strength=1, share=0.5))],
)
def test_the_perceptual_term_pulls_towards_the_input(run, method) -> None:
    # with phi the identity and features averaged, it is a squared distance; no other force acts
    x, prior = images(), gaussian_prior()
    free = method.model_copy(update={"scale": 0.0, "l1": 0.0})
    held = free.model_copy(update={"perceptual": 2_000.0})
    apart = [
        (run(prior, CLASSIFIER, x, UP, each, noise(), perceptual=nn.Identity()).x_cf - x).square().mean((1, 2, 3))
        for each in (free, held)
    ]
    assert (apart[1] < apart[0]).all()
    with pytest.raises(ValueError, match="has weight 2000.0 but no network"):
        run(prior, CLASSIFIER, x, UP, held, noise())


@pytest.mark.parametrize("passes", ["2", "2+"])
def test_two_passes_keep_to_the_mask_that_the_first_found(passes: str) -> None:
    x, prior, counted = images(), gaussian_prior(), Counted(gaussian_prior())
    method = FastDiME(steps=50, tau=12, scale=20, dilation=1, threshold=0.4, passes=passes)
    found = fastdime(counted, CLASSIFIER, x, UP, method, noise())
    assert counted.forward == 4 * 24
    first = method.model_copy(update={"passes": "1"} | ({"warm_up": 1.0} if passes == "2" else {}))
    expected = changed_region(x, fastdime(prior, CLASSIFIER, x, UP, first, noise()).x_cf, 0.4, 1)
    assert found.mask is not None and 0 < expected.mean() < 1
    torch.testing.assert_close(found.mask, expected)
    kept = (found.mask == 0).expand_as(x)
    torch.testing.assert_close(found.x_cf[kept], x[kept], atol=0, rtol=0)


def test_margin_is_the_highest_other_logit_against_the_targets() -> None:
    three, target = torch.tensor([[0.5, 1.0, -2.0], [0.5, 1.0, -2.0]]), torch.tensor([2, 1])
    torch.testing.assert_close(class_loss(three, target, "margin"), torch.tensor([3.0, -0.5]))
    two = torch.tensor([[0.0, 2.0], [1.0, -1.0]])
    torch.testing.assert_close(class_loss(two, UP[:2], "margin"), class_loss(two, UP[:2], "logit"))


def test_what_cannot_work_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="which guide 'noisy' never makes"):
        DiME(guide="noisy", early_stopping=True)
    with pytest.raises(ValidationError, match="region .* is no rectangle"):
        DiME(region=(0.5, 0.5, 0, 1))
    for method in (DiME, FastDiME):
        with pytest.raises(ValidationError, match="perceptual is 30.0, which needs VGG19: set `vgg19`"):
            method(perceptual=30)


@pytest.mark.parametrize("method", [ACE, FastDiME, MaskDiME])
def test_a_square_that_grows_a_mask_has_an_odd_side(method: type[Config]) -> None:
    with pytest.raises(ValidationError, match="odd side; use 3 or 5"):
        method.model_validate({"method": method.model_fields["method"].default, "dilation": 4})


@pytest.mark.parametrize("method", [ACE, Blended, DiME, FastDiME, DVCE, MaskDiME, TIME])
def test_no_method_starts_deeper_than_its_prior_is_respaced(method: type[Config]) -> None:
    settings = {"method": method.model_fields["method"].default, "steps": 20}
    assert method.model_validate(settings | {"tau": 19})
    with pytest.raises(ValidationError, match="tau is 21, but the prior is respaced to 20 steps"):
        method.model_validate(settings | {"tau": 21})
