"""Auto Frank-Wolfe and AutoPGD: the linear problem by hand, and a linear classifier whose best point is known."""

import math

import pytest
import torch
from pydantic import ValidationError

from cfx.methods.svce import SVCE, climb, largest_product, project_l2, score, svce
from cfx.random import ImageNoise
from tasks.cost import Counted
from tests.toys import Linear, gaussian_prior

IDS = [f"image-{i}" for i in range(4)]
CLASSIFIER = Linear()
UP = torch.ones(4, dtype=torch.long)


def images(n: int = 4) -> torch.Tensor:
    return (torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.3).clamp(-1, 1)


def flat(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)


def test_largest_product_by_hand() -> None:
    delta = largest_product(flat(3, 4), flat(-10, -10), 1.5, 1.0)  # far from the faces: a negative start leaves room upwards
    torch.testing.assert_close(delta.flatten(), torch.tensor([0.44485135, 0.79084685], dtype=torch.float64))
    assert float((delta.abs() ** 1.5).sum() ** (2 / 3)) == pytest.approx(1)
    assert float((delta * flat(3, 4)).sum()) == pytest.approx(4.49794145)


def test_largest_product_in_a_corner_of_the_box() -> None:
    torch.testing.assert_close(largest_product(flat(3, -4, 0), flat(0.8, 0.3, 0.5), 1.5, 100.0), flat(0.2, -0.3, 0))
    torch.testing.assert_close(largest_product(flat(0, 0), flat(0.8, 0.3), 1.5, 1.0), flat(0, 0))
    torch.testing.assert_close(largest_product(flat(1, -1), flat(1, 0), 1.5, 1.0), flat(0, 0))  # no way to go


@pytest.mark.parametrize("p", [1.2, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("radius", [0.1, 1.0, 4.0, 50.0])
def test_largest_product_is_feasible_and_no_feasible_point_is_better(p: float, radius: float) -> None:
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(3, 3, 4, 4, generator=generator, dtype=torch.float64)
    x = torch.rand(3, 3, 4, 4, generator=generator, dtype=torch.float64)
    g[:, 0, 0] = 0
    delta = largest_product(g, x, p, radius)
    norm = (delta.abs() ** p).flatten(1).sum(1) ** (1 / p)
    assert (norm <= radius * (1 + 1e-9)).all() and ((x + delta) >= -1e-12).all() and ((x + delta) <= 1 + 1e-12).all()
    value = (g * delta).flatten(1).sum(1)
    for _ in range(200):
        other = torch.randn(g.shape, generator=generator, dtype=torch.float64) + 2 * g.sign() * torch.rand(1, generator=generator)
        other = (x + other).clamp(0, 1) - x
        other = other * (radius / (other.abs() ** p).flatten(1).sum(1) ** (1 / p)).clamp(max=1).view(-1, 1, 1, 1)
        assert (value >= (g * other).flatten(1).sum(1) - 1e-9).all()
    if radius < 1:  # the ball is what holds it: it is used up
        torch.testing.assert_close(norm, torch.full_like(norm, radius))


def test_the_first_frank_wolfe_step_of_a_linear_classifier_is_the_best_point() -> None:
    # all pixels of the upper half weigh the same and none meets its face: each moves r / n^(2/3), n = 96
    x, radius = torch.full((1, 3, 8, 8), 0.5), 2.0
    found = climb(CLASSIFIER, x, UP[:1], SVCE(), radius)
    torch.testing.assert_close(found, x + CLASSIFIER.weight * radius / 96 ** (2 / 3), atol=1e-5, rtol=0)


def test_autopgd_of_a_linear_classifier_ends_on_the_ball() -> None:
    x, radius = torch.full((1, 3, 8, 8), 0.5), 1.0
    found = climb(CLASSIFIER, x, UP[:1], SVCE(attack="apgd"), radius)
    torch.testing.assert_close(found, x + CLASSIFIER.weight * radius / math.sqrt(96), atol=1e-4, rtol=0)


class Bent:
    """log-odds with a best point inside the ball: 4 - |x - .1|^2 over the upper half."""

    classes = ("low", "high")
    differentiable = True

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        log_odds = 4 - 100 * ((x[:, :, :4] - 0.1).square()).flatten(1).mean(1)
        return torch.stack([torch.zeros_like(log_odds), log_odds], dim=1)


@pytest.mark.parametrize("attack", ["afw", "apgd"])
def test_steps_shorten_until_an_inner_best_point_is_found(attack: str) -> None:
    x = (images() + 1) / 2
    found = climb(Bent(), x, UP, SVCE(attack=attack, iterations=200), 6.0)
    value, _ = score(Bent(), found, UP)
    best, _ = score(Bent(), torch.full_like(x, 0.55), UP)
    assert (value > best - 0.1).all() and (value > score(Bent(), x, UP)[0]).all()


@pytest.mark.parametrize(("attack", "radius"), [("afw", 3.0), ("apgd", 1.0)])
@pytest.mark.parametrize("wanted", [0, 1])
def test_it_moves_towards_the_target_within_the_ball(attack: str, radius: float, wanted: int) -> None:
    x, target, method = images(), torch.full((4,), wanted), SVCE(attack=attack, radii=(radius,), iterations=20)
    found = svce(gaussian_prior(), CLASSIFIER, x, target, method, ImageNoise.of(IDS, 0)).x_cf
    moved = (CLASSIFIER(found) - CLASSIFIER(x))[:, 1]
    assert (moved > 0.1).all() if wanted else (moved < -0.1).all()
    norm = (found - x).flatten(1).div(2).norm(p=1.5 if attack == "afw" else 2, dim=1)
    assert (norm <= radius + 1e-4).all() and found.abs().max() <= 1


@pytest.mark.parametrize("attack", ["afw", "apgd"])
def test_without_guidance_the_input_comes_back_exactly(attack: str) -> None:
    x, method = images(), SVCE(attack=attack, scale=0, radii=(3.0,))
    torch.testing.assert_close(svce(gaussian_prior(), CLASSIFIER, x, UP, method, ImageNoise.of(IDS, 0)).x_cf, x, atol=0, rtol=0)


def test_the_smallest_radius_that_is_enough_is_used() -> None:
    x = torch.stack(
        [torch.full((3, 8, 8), 0.5), torch.full((3, 8, 8), -0.5)]
    )  # log-odds 2.5 (p .92) and -2.5; p .9 is a radius of 9.86
    method = SVCE(radii=(1.0, 10.0, 11.0), iterations=5, confidence=0.9)
    found = svce(gaussian_prior(), CLASSIFIER, x, UP[:2], method, ImageNoise.of(IDS[:2], 0)).x_cf
    norm = (found - x).flatten(1).div(2).norm(p=1.5, dim=1)
    assert norm.tolist() == pytest.approx([1.0, 10.0], abs=1e-3)


@pytest.mark.parametrize("attack", ["afw", "apgd"])
def test_result_does_not_depend_on_the_batch_and_costs_no_unet_evaluation(attack: str) -> None:
    x, method, counted = images(), SVCE(attack=attack, radii=(1.0, 3.0), iterations=20), Counted(gaussian_prior())
    together = svce(counted, Bent(), x, UP, method, ImageNoise.of(IDS, 0)).x_cf
    for i in range(4):
        alone = svce(counted, Bent(), x[i : i + 1], UP[:1], method, ImageNoise.of([IDS[i]], 0)).x_cf
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)
    assert (counted.forward, counted.backward) == (0, 0)


def test_project_l2_by_hand() -> None:
    found = project_l2(flat(0.5 + 3, 0.5 - 4), flat(0.5, 0.5), 0.5)
    torch.testing.assert_close(found, flat(0.8, 0.1))
    torch.testing.assert_close(project_l2(flat(0.9 + 3, 0.5 - 4), flat(0.9, 0.5), 0.5), flat(1.0, 0.1))


def test_what_cannot_work_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"radii \(100.0, 50.0\) must be positive and grow"):
        SVCE(radii=(100, 50))
