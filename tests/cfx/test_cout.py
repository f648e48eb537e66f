"""COUT: the worked example, its range, its two sums, and a classifier whose curve is known in closed form."""

import pytest
import torch
from scipy.integrate import trapezoid

from cfx.metrics.cout import cout


class Staircase:
    """p(class 1) by how many of four pixels are white: 0, .4, .7, .9, 1, whatever their order."""

    classes = ("black", "white")
    differentiable = True
    levels = torch.tensor([0.0, 0.4, 0.7, 0.9, 1.0], dtype=torch.float64)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        white = (x[:, 0] > -1).flatten(1).sum(1)
        p = self.levels[white]
        return torch.stack([1 - p, p], dim=1).log()


def example() -> tuple[torch.Tensor, torch.Tensor]:
    x = -torch.ones(1, 3, 2, 2)
    x_cf = x.clone()
    x_cf[0, 0] = torch.tensor([[-0.8, -0.2], [-0.4, -0.6]])  # differences .1, .4, .3, .2 on [0, 1]
    return x, x_cf


BLACK, WHITE = torch.tensor([0]), torch.tensor([1])


def test_worked_example() -> None:
    found = cout(Staircase(), *example(), BLACK, WHITE)
    assert found.value.item() == pytest.approx(0.625 - 0.375)  # AUC of p' .625, of p .375
    assert found.reference.item() == pytest.approx(0.25)


def test_the_most_changed_pixels_come_first() -> None:
    x, x_cf = example()
    seen = []

    class Watching(Staircase):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((x[0, 0] > -1).int().flatten().tolist())
            return super().__call__(x)

    cout(Watching(), x, x_cf, BLACK, WHITE)
    assert seen == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1]]


class Mean:
    """Log-odds of the last class are `gain` times the mean; the others share the rest."""

    differentiable = True

    def __init__(self, classes: int = 2, gain: float = 4.0) -> None:
        self.classes = tuple(str(i) for i in range(classes))
        self.gain = gain

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(x), len(self.classes), dtype=torch.float64)
        logits[:, -1] = self.gain * x.double().flatten(1).mean(1)
        return logits


def test_binary_cout_is_the_sigmoids_area_by_another_rule() -> None:
    # every pixel from -1 to 1: after k of 51 reveals of 327 of 128 x 128 pixels the mean is 2 k 327 / 128^2 - 1
    x = -torch.ones(1, 3, 128, 128)
    found = cout(Mean(), x, -x, BLACK, WHITE)
    shown = (torch.arange(52, dtype=torch.float64) * 327 / 128**2).clamp(max=1)
    p = torch.sigmoid(4 * (2 * shown - 1))
    area = trapezoid((2 * p - 1).numpy(), dx=1.0)
    assert found.value.item() == pytest.approx(area / 51, abs=1e-6)
    assert found.reference.item() == pytest.approx(area * 327 / 128**2, abs=1e-6)


def test_many_classes_compare_target_and_source_only() -> None:
    x = -torch.ones(1, 3, 10, 10)
    found = cout(Mean(classes=5), x, -x, torch.tensor([1]), torch.tensor([4]))
    curve = []
    for k in range(51):
        odds = torch.tensor([0.0, 0, 0, 0, 4 * (2 * k / 50 - 1)], dtype=torch.float64).softmax(0)
        curve.append(float(odds[4] - odds[1]))
    assert found.value.item() == pytest.approx(trapezoid(curve, dx=1 / 50), abs=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "reveals", "reference"),
    [(128, 128, 51, 1.01788), (256, 256, 51, 1.01944), (256, 512, 51, 1.01983), (64, 64, 51, 1.00854), (7, 7, 49, 1.0)],
)
def test_the_exact_range_is_one_and_the_published_sum_exceeds_it(height: int, width: int, reveals: int, reference: float) -> None:
    calls = []

    class Flips(Mean):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            return torch.tensor([[-1e3, 1e3]], dtype=torch.float64).expand(len(x), 2)

    x = torch.zeros(1, 3, height, width)
    found = cout(Flips(), x, x + 0.5, BLACK, WHITE)
    assert found.value.item() == pytest.approx(1.0)
    assert found.reference.item() == pytest.approx(reference, abs=5e-6)
    assert len(calls) == 1 + reveals  # the clean image, then every reveal


def test_a_counterfactual_that_equals_its_image_has_no_cout() -> None:
    x, x_cf = example()
    found = cout(Staircase(), torch.cat([x, x]), torch.cat([x, x_cf]), BLACK.repeat(2), WHITE.repeat(2))
    assert found.value.isnan().tolist() == [True, False]
    assert found.reference.isnan().tolist() == [True, False]
