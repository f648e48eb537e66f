"""DVCE on an exact prior and linear classifiers; the cone by hand; the views that scores are averaged over."""

import math

import pytest
import torch
from pydantic import ValidationError

from cfx.classifiers.torch_module import ClassifierConfig
from cfx.diffusion.ddpm import DDPM, Schedule
from cfx.diffusion.schedule import q_sample
from cfx.guidance import clean_estimate, posterior_mean, rescaled
from cfx.methods.dime import denoise
from cfx.methods.dvce import DVCE, dvce, project_onto_cone
from cfx.random import ImageNoise
from cfx.random_views import Rendering, _affine, _perspective, draw_views, render_views, view_score
from tests.cfx.counting import counted_prior
from tests.toys import Linear, Says, gaussian_prior

IDS = [f"image-{i}" for i in range(4)]
CLASSIFIER = Linear()
UP = torch.ones(4, dtype=torch.long)


class Left(Linear):
    """Looks at the left half instead of the upper one: its gradient is 60 degrees from `Linear`'s."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = self.weight.transpose(1, 2).contiguous()


def images(n: int = 4) -> torch.Tensor:
    return (torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.3).clamp(-1, 1)


@pytest.mark.parametrize(
    ("v", "w", "expected"),
    [
        ((1, 0), (0, 1), (0.8660254, 0.5)),
        ((1, 0), (-1, 1), (0.8660254, 0.5)),
        ((1, 0), (2, 1), (1, 0)),  # 26.57 degrees: inside
        ((2, 0, 1), (1, 2, 2), (0.65002845, 0.4152274, 0.63643477)),  # 53.40 degrees
        ((1, 0), (-1, 0), (1, 0)),  # opposite: nothing lies beside the axis
        ((1, 0), (3, 0), (1, 0)),
        ((0, 0), (1, 2), (0, 0)),
        ((3, 4), (0, 0), (0.6, 0.8)),
    ],
)
def test_cone_by_hand(v: tuple[float, ...], w: tuple[float, ...], expected: tuple[float, ...]) -> None:
    found = project_onto_cone(torch.tensor([w], dtype=torch.float32), torch.tensor([v], dtype=torch.float32), 30)
    torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float32), atol=1e-6, rtol=0)


def test_a_robust_gradient_inside_the_cone_can_be_kept() -> None:
    found = project_onto_cone(torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 0.0]]), 30, keep_inside=True)
    torch.testing.assert_close(found, torch.tensor([[2.0, 1.0]]) / math.sqrt(5))


def test_the_angle_of_a_projection_is_alpha() -> None:
    generator = torch.Generator().manual_seed(0)
    w, v = torch.randn(16, 3, 8, 8, generator=generator), torch.randn(16, 3, 8, 8, generator=generator)
    found = project_onto_cone(w, v, 30)
    cosine = torch.cosine_similarity(found.flatten(1), v.flatten(1))
    torch.testing.assert_close(cosine, torch.full((16,), math.cos(math.radians(30))), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.flatten(1).norm(dim=1), torch.ones(16))
    alone = project_onto_cone(w[3:4], v[3:4], 30)
    torch.testing.assert_close(alone[0], found[3])


def test_rescaled_gradients_have_the_norm_of_the_noise() -> None:
    gradient, eps = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[6.0, 8.0], [1.0, 1.0]])
    found = rescaled(gradient.view(2, 2, 1, 1), eps.view(2, 2, 1, 1)).flatten(1)
    torch.testing.assert_close(found, torch.tensor([[6.0, 8.0], [0.0, 0.0]]))


def test_posterior_mean_and_clean_estimate_are_the_denoisers() -> None:
    prior, z = counted_prior(clip=False)[0], images()
    for t in (0, 1, 30):
        mean, _, x0, eps = prior.step(z, t)
        torch.testing.assert_close(clean_estimate(prior, z, eps, t), x0, atol=1e-5, rtol=0)
        torch.testing.assert_close(posterior_mean(prior, z, x0, t), mean)


def test_posterior_mean_worked_example() -> None:
    # 500 steps respaced to 200, step 59: c1 = .0380882922, c2 = .9580364462; z = .5, clean estimate .5449735
    prior = DDPM(Says(0.2), Schedule(num_train_timesteps=500), channels=3, steps=200)
    z = torch.full((1, 3, 2, 2), 0.5)
    x0 = clean_estimate(prior, z, torch.full_like(z, 0.2), 59)
    torch.testing.assert_close(x0, torch.full_like(z, 0.5449735))
    torch.testing.assert_close(posterior_mean(prior, z, x0, 59), torch.full_like(z, 0.4997753))


@pytest.mark.parametrize("wanted", [0, 1])
@pytest.mark.parametrize("robust", [None, Left()])
def test_guidance_moves_towards_the_target(wanted: int, robust: Linear | None) -> None:
    x, target, prior = images(), torch.full((4,), wanted), gaussian_prior()
    method = DVCE(steps=50, tau=12, augmentations=1 if robust is None else 4)
    guided = dvce(prior, CLASSIFIER, x, target, method, ImageNoise.of(IDS, 0), robust).x_cf
    null = dvce(prior, CLASSIFIER, x, target, method.model_copy(update={"scale": 0.0}), ImageNoise.of(IDS, 0), robust).x_cf
    moved = (CLASSIFIER(guided) - CLASSIFIER(null))[:, 1]
    assert (moved > 0.02).all() if wanted else (moved < -0.02).all()


def test_the_distance_pulls_towards_the_input() -> None:
    x, prior, method = images(), gaussian_prior(), DVCE(steps=50, tau=20, scale=0)
    near = dvce(prior, CLASSIFIER, x, UP, method, ImageNoise.of(IDS, 0)).x_cf
    far = dvce(prior, CLASSIFIER, x, UP, method.model_copy(update={"distance": 0.0}), ImageNoise.of(IDS, 0)).x_cf
    assert ((near - x).abs().mean((1, 2, 3)) < (far - x).abs().mean((1, 2, 3))).all()


def test_without_guidance_it_is_noising_and_denoising() -> None:
    x, (prior, _) = images(), counted_prior(clip=False)
    noise = ImageNoise.of(IDS, 0)
    with torch.no_grad():
        expected = denoise(prior, q_sample(prior, x, 9, noise), 9, noise)
    for clip in (False, True):  # the denoiser's own clipping does not matter
        method = DVCE(steps=50, tau=10, scale=0, distance=0)
        found = dvce(counted_prior(clip=clip)[0], CLASSIFIER, x, UP, method, ImageNoise.of(IDS, 0))
        torch.testing.assert_close(found.x_cf, expected.clamp(-1, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["unet", "closed_form"])
def test_one_guided_step_by_hand(mode: str) -> None:
    # in a Gaussian prior x0 is affine in z, so through the UNet or not, every gradient keeps its direction
    x, (prior, _) = images(1), counted_prior(clip=False)
    method = DVCE(steps=50, tau=2, scale=0.3, distance=0.2, distance_gradient=mode)
    noise = ImageNoise.of(IDS[:1], 0)
    z = q_sample(prior, x, 1, noise)
    mean, std, x0, eps = prior.step(z, 1)
    length = eps.norm()
    class_direction = CLASSIFIER.weight / CLASSIFIER.weight.norm()
    away = (x0 - x).sign() / math.sqrt(x.numel())
    z = mean + std.square() * length * (0.3 * class_direction - 0.2 * away) + std * noise.like(z)
    expected = prior.step(z, 0).x0.clamp(-1, 1)
    found = dvce(prior, CLASSIFIER, x, UP[:1], method, ImageNoise.of(IDS[:1], 0))
    torch.testing.assert_close(found.x_cf, expected, atol=1e-5, rtol=0)


def test_a_cone_of_no_angle_is_the_classifier_alone() -> None:
    x, prior, method = images(), gaussian_prior(), DVCE(steps=50, tau=8, angle=0)
    alone = dvce(prior, CLASSIFIER, x, UP, method, ImageNoise.of(IDS, 0)).x_cf
    with_robust = dvce(prior, CLASSIFIER, x, UP, method, ImageNoise.of(IDS, 0), Left()).x_cf
    torch.testing.assert_close(with_robust, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "robust", "evaluations"),
    [
        ({}, None, (100, 2 * 99)),  # class and distance; the last step's clean estimate is the result, and needs no guidance
        ({}, Left(), (100, 3 * 99)),
        ({"distance_gradient": "closed_form"}, None, (100, 99)),
        ({"scale": 0.0}, Left(), (100, 99)),
        ({"scale": 0.0, "distance": 0.0}, None, (100, 0)),
    ],
)
def test_unet_evaluations_an_image(change: dict[str, object], robust: Linear | None, evaluations: tuple[int, int]) -> None:
    prior, network = counted_prior(steps=200)
    network.requires_grad_(False)
    method = DVCE().model_copy(update=change)
    dvce(prior, CLASSIFIER, images(2), UP[:2], method, ImageNoise.of(IDS[:2], 0), robust)
    assert (network.forwards // 2, network.backwards // 2) == evaluations


@pytest.mark.parametrize("robust", [None, Left()])
def test_result_does_not_depend_on_the_batch(robust: Linear | None) -> None:
    x, prior, method = images(), gaussian_prior(), DVCE(steps=50, tau=8, augmentations=3)
    together = dvce(prior, CLASSIFIER, x, UP, method, ImageNoise.of(IDS, 5), robust).x_cf
    for i in range(4):
        alone = dvce(prior, CLASSIFIER, x[i : i + 1], UP[:1], method, ImageNoise.of([IDS[i]], 5), robust).x_cf
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)


def test_the_first_view_is_the_image_and_others_differ() -> None:
    x = images(2)
    views = draw_views(x, 16, ImageNoise.of(IDS[:2], 0))
    rendered = render_views(x, views, Rendering(224)).view(16, 2, 3, 8, 8)
    torch.testing.assert_close(rendered[0], x, atol=0, rtol=0)
    different = (rendered[1:] - x).flatten(2).abs().amax(2) > 1e-4
    assert 0.7 < different.float().mean() <= 1  # .91 are moved, tilted or both
    assert not torch.equal(rendered[3, 0], rendered[4, 0])


def test_every_view_shows_the_image() -> None:
    x = torch.full((1, 3, 8, 8), 0.25)
    rendered = render_views(x, draw_views(x, 32, ImageNoise.of(["a"], 0)), Rendering(224))
    torch.testing.assert_close(rendered, torch.full_like(rendered, 0.25))


def test_large_images_are_pooled_before_they_are_viewed() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    rendered = render_views(x, draw_views(x, 1, ImageNoise.of(["a"], 0)), Rendering(2))
    torch.testing.assert_close(rendered[0, 0], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))


def test_a_drawn_homography_turns_and_shifts_by_hand() -> None:
    quarter = torch.tensor([1.0, 0.5, 0.75])  # 15 degrees, no shift across, half of the largest shift along
    expected = [[math.cos(math.pi / 12), -math.sin(math.pi / 12), 0], [math.sin(math.pi / 12), math.cos(math.pi / 12), 0.1]]
    torch.testing.assert_close(_affine(quarter, 1.0)[:2], torch.tensor(expected))
    torch.testing.assert_close(_perspective(torch.zeros(8)), torch.eye(3), atol=1e-6, rtol=0)
    drawn_in = _perspective(torch.ones(1, 8))[0]  # every corner at .3 of the half side: a zoom out
    torch.testing.assert_close(drawn_in, torch.diag(torch.tensor([1 / 0.3, 1 / 0.3, 1.0])), atol=1e-5, rtol=0)


def test_view_score_of_one_view_is_the_log_probability_at_a_temperature() -> None:
    x = images(2)
    score = view_score(CLASSIFIER, x, UP[:2], draw_views(x, 1, ImageNoise.of(IDS[:2], 0)), Rendering(224), 2.0)
    torch.testing.assert_close(score, torch.nn.functional.logsigmoid(CLASSIFIER(x)[:, 1] / 2))


def test_what_cannot_work_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="tau is 100, but the prior is respaced to 50"):
        DVCE(steps=50)
    with pytest.raises(ValidationError, match="angle"):
        DVCE(angle=90)
    method = DVCE(steps=50, tau=2, robust=ClassifierConfig(weights="robust.safetensors"))
    with pytest.raises(ValueError, match="pass it as `robust`"):
        dvce(gaussian_prior(), CLASSIFIER, images(), UP, method, ImageNoise.of(IDS, 0))
