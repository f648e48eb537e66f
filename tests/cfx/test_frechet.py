"""FID and KID: the worked examples, and the same from scipy, torchmetrics and the kernel's own definition."""

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from cfx.metrics.frechet import Moments, frechet_distance, kernel_distance

SQUARE = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])  # covariance 4/3 I
FIVE = torch.cat([SQUARE, torch.tensor([[4.0, 1.0]])])
SHEAR = torch.tensor([[1.0, 0.5], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("real", "fake", "expected"),
    [
        (SQUARE, SQUARE, 0.0),
        (SQUARE, SQUARE + torch.tensor([3.0, 4.0]), 25.0),
        (SQUARE, 2 * SQUARE, 2 + 2 * 4 / 3),  # 2 from the means, 4/3 an axis from the covariances
        (FIVE, FIVE @ SHEAR + torch.tensor([1.0, 0.0]), 2.1579694),
    ],
)
def test_fid_worked_examples(real: torch.Tensor, fake: torch.Tensor, expected: float) -> None:
    assert frechet_distance(Moments.of(real), Moments.of(fake)) == pytest.approx(expected, abs=1e-6)


def two_sets(n: int, m: int, dimensions: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    mixing = torch.randn(dimensions, dimensions, generator=generator)
    real = torch.randn(n, dimensions, generator=generator) @ mixing + 5
    return real, torch.randn(m, dimensions, generator=generator) * 0.7 + 4


@pytest.mark.parametrize(("n", "m", "dimensions"), [(300, 200, 12), (9, 7, 20)])  # of full rank, and of far less
def test_fid_is_scipys(n: int, m: int, dimensions: int) -> None:
    a, b = two_sets(n, m, dimensions)
    cov_a, cov_b = (np.cov(rows.double().numpy(), rowvar=False) for rows in (a, b))
    root = sqrtm(cov_a @ cov_b).real
    mean = (a.double().mean(0) - b.double().mean(0)).square().sum()
    expected = float(mean) + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(expected, rel=1e-5)


class Bare(nn.Module):
    """Features are the images themselves, as torchmetrics asks its encoder to be."""

    num_features = 12

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.filterwarnings("ignore:.*will save all extracted features:UserWarning")
def test_fid_and_kid_are_torchmetrics() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    a, b = two_sets(60, 60, 12)
    fid = FrechetInceptionDistance(feature=Bare(), input_img_size=(12,))  # type: ignore[arg-type] # rows, not images
    kid = KernelInceptionDistance(feature=Bare(), subsets=2, subset_size=60)
    for metric in (fid, kid):
        metric.update(a, real=True)
        metric.update(b, real=False)
    assert frechet_distance(Moments.of(a), Moments.of(b)) == pytest.approx(float(fid.compute()), rel=1e-4)
    assert kernel_distance(a, b) == pytest.approx(float(kid.compute()[0]), rel=1e-4)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (6, 4)])
def test_kid_is_the_unbiased_sum_over_pairs_in_any_order(n: int, m: int) -> None:
    a, b = two_sets(n, m, 3)

    def kernel(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x.double() @ y.double() / 3 + 1) ** 3)

    within = sum(np.mean([kernel(x, y) for x, y in permutations(rows, 2)]) for rows in (a, b))
    across = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(within - 2 * across, rel=1e-9)
    assert kernel_distance(a.flip(0), b.flip(0)) == pytest.approx(within - 2 * across, rel=1e-9)


def test_moments_of_many_small_batches_are_those_of_all_rows_and_stay_small() -> None:
    rows, other = two_sets(5000, 40, 6)
    rows += 1000  # where sums of squares would lose half their digits
    together = Moments.together(Moments.of(part) for part in rows.split(7))
    assert together.n == 5000
    assert len(together.root) <= 2 * 7
    mean, factor = together.spread()
    torch.testing.assert_close(mean, rows.double().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(factor.T @ factor, rows.double().T.cov(), rtol=1e-9, atol=1e-9)
    whole = frechet_distance(Moments.of(rows), Moments.of(other))
    assert frechet_distance(together, Moments.of(other)) == pytest.approx(whole, rel=1e-9)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="a covariance needs two rows, but there are 1"):
        frechet_distance(Moments.of(SQUARE), Moments.of(SQUARE[:1]))
    with pytest.raises(ValueError, match="two rows of each set, but there are 4 and 1"):
        kernel_distance(SQUARE, SQUARE[:1])
