"""DiME and FastDiME on an exact prior and a linear classifier."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from cfx.diffusion.schedule import q_sample
from cfx.escalate import escalate
from cfx.guidance import changed_region, class_gradient, class_loss
from cfx.methods.dime import DiME, FastDiME, denoise, dime, fastdime
from cfx.random import ImageNoise
from cfx.types import Counterfactual
from tasks.cost import Counted
from tasks.explainer import Explainer, Targets, explain_images
from tests.cfx.counting import counted_prior
from tests.toys import Linear, gaussian_prior

IDS = [f"image-{i}" for i in range(4)]
CLASSIFIER = Linear()


def images(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.3


def log_odds(x: torch.Tensor) -> torch.Tensor:
    return CLASSIFIER(x)[:, 1]


@pytest.mark.parametrize("wanted", [0, 1])
@pytest.mark.parametrize("method", [DiME(steps=50, tau=12, scale=20), FastDiME(steps=50, tau=12, scale=20)])
def test_guidance_moves_towards_the_target(method: DiME | FastDiME, wanted: int) -> None:
    x, target = images(), torch.full((4,), wanted)
    run: Any = dime if isinstance(method, DiME) else fastdime
    prior = gaussian_prior()
    guided = run(prior, CLASSIFIER, x, target, method, ImageNoise.of(IDS, 0)).x_cf
    null = run(prior, CLASSIFIER, x, target, method.model_copy(update={"scale": 0.0}), ImageNoise.of(IDS, 0)).x_cf
    moved = log_odds(guided) - log_odds(null)
    assert (moved > 0.1).all() if wanted else (moved < -0.1).all()


@pytest.mark.parametrize("method", [DiME(steps=50, tau=10, scale=3, l1=0), FastDiME(steps=50, tau=10, scale=3, l1=0, warm_up=1)])
def test_the_whole_effect_of_guidance_in_closed_form(method: DiME | FastDiME) -> None:
    # in a Gaussian prior a step is affine and a linear classifier pushes alike everywhere: the push of step t, variance times
    # scale times gradient (DiME's over sqrt(abar)), reaches the end through the slopes of the steps after it
    x, up, (prior, _) = images() * 0.3, torch.ones(4, dtype=torch.long), counted_prior(clip=False)
    run: Any = dime if isinstance(method, DiME) else fastdime
    guided = run(prior, CLASSIFIER, x, up, method, ImageNoise.of(IDS, 0)).x_cf
    null = run(prior, CLASSIFIER, x, up, method.model_copy(update={"scale": 0.0}), ImageNoise.of(IDS, 0)).x_cf
    moved, gradient = 0.0, CLASSIFIER.gain / CLASSIFIER.weight.numel()
    for t in reversed(range(method.tau)):
        level = float(prior.alphas_cumprod[t])
        slope = float(prior.c1[t]) * 0.25 * level**0.5 / (0.25 * level + 1 - level) + float(prior.c2[t])
        push = float(prior.log_posterior[t].exp()) * method.scale * gradient
        moved = slope * moved + (push / level**0.5 if isinstance(method, DiME) else push)
    free = (guided.abs() < 1) & (null.abs() < 1)  # the result is clamped
    torch.testing.assert_close((guided - null)[free], (moved * CLASSIFIER.weight).expand_as(x)[free], atol=1e-6, rtol=0)
    assert moved > 1e-3 and free.float().mean() > 0.9


def test_dime_without_guidance_is_noising_and_denoising() -> None:
    x, prior, method = images(), gaussian_prior(), DiME(steps=50, tau=1, scale=0, l1=0)
    noise = ImageNoise.of(IDS, 0)
    with torch.no_grad():
        expected = denoise(prior, q_sample(prior, x, 0, noise), 0, noise)
    found = dime(prior, CLASSIFIER, x, torch.ones(4, dtype=torch.long), method, ImageNoise.of(IDS, 0))
    torch.testing.assert_close(found.x_cf, expected.clamp(-1, 1))


def test_dimes_null_run_skips_the_inner_chains_and_keeps_the_noise() -> None:
    x, up, counted = images(), torch.ones(4, dtype=torch.long), Counted(gaussian_prior())
    null, hardly = (DiME(steps=50, tau=12, scale=scale) for scale in (0, 1e-9))
    found = dime(counted, CLASSIFIER, x, up, null, ImageNoise.of(IDS, 0)).x_cf
    assert counted.forward == 4 * 12
    torch.testing.assert_close(found, dime(gaussian_prior(), CLASSIFIER, x, up, hardly, ImageNoise.of(IDS, 0)).x_cf)


def test_fastdime_without_guidance_and_mask_is_noising_and_denoising() -> None:
    x, prior = images(), gaussian_prior()
    method = FastDiME(steps=50, tau=10, scale=0, l1=0, warm_up=1)
    noise = ImageNoise.of(IDS, 0)
    with torch.no_grad():
        expected = denoise(prior, q_sample(prior, x, 9, noise), 9, noise)
    found = fastdime(prior, CLASSIFIER, x, torch.ones(4, dtype=torch.long), method, ImageNoise.of(IDS, 0))
    torch.testing.assert_close(found.x_cf, expected.clamp(-1, 1))
    assert found.mask is None


@pytest.mark.parametrize(
    ("method", "evaluations"), [(DiME(steps=50, tau=12), 78), (DiME(steps=200, tau=60), 1830), (FastDiME(steps=200, tau=60), 60)]
)
def test_unet_evaluations_an_image(method: DiME | FastDiME, evaluations: int) -> None:
    counted = Counted(gaussian_prior(steps=method.steps))
    run: Any = dime if isinstance(method, DiME) else fastdime
    run(counted, CLASSIFIER, images(2), torch.ones(2, dtype=torch.long), method, ImageNoise.of(IDS[:2], 0))
    assert (counted.forward, counted.backward) == (2 * evaluations, 0)


def test_outside_its_mask_fastdime_returns_the_input_exactly() -> None:
    x = images()
    found = fastdime(
        gaussian_prior(),
        CLASSIFIER,
        x,
        torch.ones(4, dtype=torch.long),
        FastDiME(steps=50, tau=12, dilation=1),
        ImageNoise.of(IDS, 0),
    )
    assert found.mask is not None
    kept = (found.mask == 0).expand_as(x)
    assert kept.any()
    torch.testing.assert_close(found.x_cf[kept], x.clamp(-1, 1)[kept], atol=0, rtol=0)


def test_class_gradient_of_a_linear_classifier() -> None:
    x, target = images(2), torch.tensor([1, 0])
    gradient = class_gradient(CLASSIFIER, x, target)
    expected = CLASSIFIER.gain * CLASSIFIER.weight / CLASSIFIER.weight.numel()
    torch.testing.assert_close(gradient[0], -expected)  # towards class 1 the loss falls along the weights
    torch.testing.assert_close(gradient[1], expected)


def test_class_losses_by_hand() -> None:
    logits, target = torch.tensor([[0.0, 2.0], [1.0, -1.0]]), torch.tensor([1, 1])
    torch.testing.assert_close(class_loss(logits, target, "logit"), torch.tensor([-2.0, 2.0]))
    torch.testing.assert_close(class_loss(logits, target, "log_prob"), torch.tensor([0.126928, 2.126928]))
    three = torch.tensor([[0.5, 1.0, -2.0]])
    torch.testing.assert_close(class_loss(three, torch.tensor([2]), "logit"), torch.tensor([2.0]))


def test_changed_region_of_identical_images_is_empty() -> None:
    x = images()
    assert changed_region(x, x, 0.15, 5).sum() == 0


def test_changed_region_grows_by_half_the_square() -> None:
    x = torch.zeros(1, 3, 9, 9)
    x_cf = x.clone()
    x_cf[0, :, 4, 4] = 1.0
    region = changed_region(x, x_cf, 0.15, 3)
    assert region.sum() == 9 and region[0, 0, 3:6, 3:6].min() == 1


@pytest.mark.parametrize("method", [DiME(steps=50, tau=6, scale=20), FastDiME(steps=50, tau=12, scale=20)])
def test_result_does_not_depend_on_the_batch(method: DiME | FastDiME) -> None:
    x, target, prior = images(), torch.ones(4, dtype=torch.long), gaussian_prior(steps=1000)
    forwards = Targets(IDS, x, target)
    together, _ = explain_images(Explainer(prior, CLASSIFIER, (method,), 4), forwards, 5)
    alone, _ = explain_images(Explainer(prior, CLASSIFIER, (method,), 1), forwards, 5)
    backwards, _ = explain_images(Explainer(prior, CLASSIFIER, (method,), 3), Targets(IDS[::-1], x.flip(0), target), 5)
    torch.testing.assert_close(alone.x_cf, together.x_cf, atol=1e-5, rtol=0)
    torch.testing.assert_close(backwards.x_cf.flip(0), together.x_cf, atol=1e-5, rtol=0)


def test_noise_belongs_to_image_seed_and_attempt() -> None:
    like = torch.zeros(1, 3, 4, 4)
    draws = {
        key: ImageNoise.of([key[0]], key[1], key[2]).like(like) for key in [("a", 0, 0), ("b", 0, 0), ("a", 1, 0), ("a", 0, 1)]
    }
    torch.testing.assert_close(ImageNoise.of(["b", "a"], 0).like(torch.zeros(2, 3, 4, 4))[1:], draws[("a", 0, 0)])
    values = list(draws.values())
    assert not any(torch.equal(values[i], values[j]) for i in range(4) for j in range(i))
    with pytest.raises(ValueError, match="noise for 1 images was used for a batch of 2"):
        ImageNoise.of(["a"], 0).like(torch.zeros(2, 3, 4, 4))


def test_retries_touch_failures_only() -> None:
    attempts: list[tuple[float, int]] = []

    def explain(scale: float, x: torch.Tensor, target: torch.Tensor, noise: ImageNoise) -> Counterfactual:
        attempts.append((scale, len(x)))
        return Counterfactual(x + scale, None)

    # log-odds are 5 (mean of the upper half): images at -.3, -.1 and .4 need a shift above .3, .1 and none
    x = torch.tensor([-0.3, -0.1, 0.4]).view(3, 1, 1, 1).expand(3, 3, 8, 8).contiguous()
    found = escalate(explain, CLASSIFIER, x, torch.ones(3, dtype=torch.long), (0.0, 0.2, 0.25), ["a", "b", "c"], 0)
    assert attempts == [(0.0, 3), (0.2, 2), (0.25, 1)]
    assert found.attempt.tolist() == [2, 1, 0]
    torch.testing.assert_close(found.x_cf[:, 0, 0, 0], torch.tensor([-0.05, 0.1, 0.4]))  # the first never flips: its last attempt


def test_depth_beyond_the_schedule_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="tau is 60, but the prior is respaced to 50 steps; lower"):
        DiME(steps=50, tau=60)
    with pytest.raises(ValidationError, match="tau is 60, but the prior is respaced to 50"):
        FastDiME(steps=50, tau=60)
