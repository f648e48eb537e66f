"""Distances and similarity: the worked examples, and the same from scipy and torchmetrics."""

import pytest
import torch
from scipy.spatial.distance import cosine as cosine_distance
from scipy.spatial.distance import minkowski

from cfx.metrics.distances import distances
from cfx.metrics.similarity import cosine


def test_worked_example() -> None:
    x = torch.zeros(1, 1, 1, 3, dtype=torch.float64)
    found = distances(x, x + 2 * torch.tensor([0.1, -0.2, 0.2]))  # on [-1, 1], so twice as far
    expected = {"l1_mean": 0.1666667, "l1_sum": 0.5, "l1_5": 0.35387186, "l2": 0.3, "linf": 0.2, "sparsity": 0.0}
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, abs=1e-6)


def test_distances_are_scipys() -> None:
    generator = torch.Generator().manual_seed(0)
    x, x_cf = (torch.rand(2, 3, 5, 5, generator=generator) * 2 - 1 for _ in range(2))
    x_cf[:, :, 0] = x[:, :, 0]
    x_cf[0, 0, 1] = x[0, 0, 1]  # the same in one channel only: a changed pixel
    found = distances(x, x_cf)
    for i in range(2):
        a, b = ((image[i].flatten().double() + 1).numpy() / 2 for image in (x, x_cf))
        for name, p in (("l1_sum", 1), ("l1_5", 1.5), ("l2", 2), ("linf", float("inf"))):
            assert found[name][i].item() == pytest.approx(minkowski(a, b, p))
        assert found["sparsity"][i].item() == pytest.approx(0.2)
        assert found["l1_mean"][i].item() == pytest.approx(minkowski(a, b, 1) / 75)


def test_cosine_is_scipys_and_torchmetrics() -> None:
    from torchmetrics.functional import pairwise_cosine_similarity

    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(4, 9, generator=generator) for _ in range(2))
    found = cosine(a, b)
    assert found.tolist() == pytest.approx([1 - cosine_distance(p, q) for p, q in zip(a.double(), b.double(), strict=True)])
    torch.testing.assert_close(found.float(), pairwise_cosine_similarity(a, b).diagonal())
    assert cosine(torch.zeros(1, 3), torch.ones(1, 3)).item() == 0.0
