"""Insertion and deletion: the worked areas, and games whose course is known by hand."""

import math

import pytest
import torch

from cfx.metrics.agreement import rank_correlation
from cfx.metrics.insertion_deletion import Game, area_under, curves, normalised_area_under, on_grid, patch_ranks
from cfx.saliency.sanity import cascade


def test_worked_areas():
    assert area_under(torch.tensor([0.0, 0.5, 1.0])).item() == pytest.approx(0.5)
    deletion = torch.tensor([0.9, 0.8, 0.4, 0.1, 0.0])
    assert area_under(deletion).item() == pytest.approx(0.4375)
    assert normalised_area_under(deletion).item() == pytest.approx(0.4861111, abs=1e-6)
    assert normalised_area_under(torch.zeros(3)).item() == 0.0


def test_areas_of_several_curves():
    assert area_under(torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 2.0]])).tolist() == [1.0, 0.5]


def corner(x: torch.Tensor) -> torch.Tensor:
    """Two classes; the log-odds of the second are 10 times the mean of the upper left quarter."""
    log_odds = 10 * x[..., :4, :4].mean((1, 2, 3))
    return torch.stack([torch.zeros_like(log_odds), log_odds], dim=1)


SURE, UNDECIDED = float(torch.sigmoid(torch.tensor(10.0))), 0.5


def test_the_game_follows_the_one_patch_that_counts():
    x = torch.ones(1, 3, 8, 8)
    first = torch.tensor([[[3.0, 2.0], [1.0, 0.0]]])
    insertion = curves(corner, x, first, "insertion")
    assert insertion[0].tolist() == pytest.approx([UNDECIDED, SURE, SURE, SURE, SURE])
    deletion = curves(corner, x, first, "deletion")
    assert deletion[0].tolist() == pytest.approx([SURE, UNDECIDED, UNDECIDED, UNDECIDED, UNDECIDED])
    last = -first
    assert curves(corner, x, last, "insertion")[0].tolist() == pytest.approx([UNDECIDED] * 4 + [SURE])


def test_it_explains_the_class_predicted_on_the_whole_image():
    deletion = curves(corner, -torch.ones(1, 3, 8, 8), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), "deletion")
    assert deletion[0, 0].item() == pytest.approx(SURE)  # of the first class


def test_removed_patches_take_the_requested_colour():
    x = torch.ones(1, 3, 8, 8)
    deletion = curves(corner, x, torch.zeros(1, 2, 2), "deletion", empty=(-1.0, -1.0, -1.0))
    assert deletion[0, -1].item() == pytest.approx(1 - SURE, abs=1e-6)


def test_blurring_keeps_flat_colour_away_from_the_border():
    x = torch.full((1, 3, 32, 32), 0.5)
    centre = curves(
        lambda shown: torch.stack([shown[:, 0, 16, 16], shown[:, 0, 0, 0]], dim=1), x, torch.zeros(1, 1, 1), "deletion", "blur"
    )
    # the middle stays .5; the corner mixes with emptiness: a bit more than half of each row and column lies inside
    inside = torch.exp(-(torch.arange(-5, 6.0) ** 2) / 50)
    share = float(inside[5:].sum() / inside.sum())
    expected = torch.tensor([0.5, 0.5 * share**2]).softmax(0)[0]
    assert centre[0, -1].item() == pytest.approx(float(expected), abs=1e-6)


def test_steps_and_grids():
    saliency = torch.arange(64.0).view(1, 8, 8)
    assert curves(corner, torch.ones(1, 3, 8, 8), saliency, "insertion", steps=4).shape == (1, 5)
    assert curves(corner, torch.ones(1, 3, 8, 8), saliency, "insertion", side=2).shape == (1, 5)
    assert on_grid(saliency, (2, 2))[0].tolist() == [[13.5, 17.5], [45.5, 49.5]]
    assert patch_ranks(torch.tensor([[[0.1, 0.7], [0.7, 0.9]]])).tolist() == [[[3, 1], [2, 0]]]


class OnePatch(torch.nn.Module):
    """Says what its only weights are."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = torch.nn.Linear(100, 1)
        self.unused = torch.nn.Linear(2, 2)


def test_the_cascade_measures_whether_a_map_hangs_on_the_weights():
    network = OnePatch()
    faithful = cascade(network, lambda: network.head.weight.detach().clone().view(1, 10, 10), ["unused", "head"])
    assert [stage.randomised for stage in faithful] == ["unused", "head"]
    assert faithful[0][1:] == pytest.approx((1.0, 1.0, 1.0, 1.0))
    assert faithful[1].rank < 0.5 and faithful[1].pearson < 0.5 and faithful[1].rank_top < 0.5
    blind = cascade(OnePatch(), lambda: torch.arange(100.0).view(1, 10, 10), ["head"])
    assert blind[0][1:] == pytest.approx((1.0, 1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="no part 'body'"):
        cascade(OnePatch(), lambda: torch.rand(1, 4, 4), ["body"])


def test_a_cascade_begins_with_the_original():
    assert rank_correlation(torch.arange(9.0).view(1, 9), -(torch.arange(9.0).view(1, 9) ** 3)).item() == pytest.approx(-1)


def test_the_published_game_of_196_patches_is_the_sigmoids_area():
    # white put into grey: after k of 196 patches the mean is k / 196, whatever their order
    def mean(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros(len(x)), 4 * x.mean((1, 2, 3))], dim=1)

    saliency = torch.rand(1, 14, 14, generator=torch.Generator().manual_seed(0))
    shown = torch.linspace(0, 1, 197)
    expectations: dict[Game, torch.Tensor] = {"insertion": torch.sigmoid(4 * shown), "deletion": torch.sigmoid(4 - 4 * shown)}
    for game, expected in expectations.items():
        curve = curves(mean, torch.ones(1, 3, 28, 28), saliency, game)
        torch.testing.assert_close(curve[0], expected)
        # the integral of sigmoid(4 t) is log(1 + e^(4 t)) / 4
        assert area_under(curve).item() == pytest.approx((math.log1p(math.exp(4)) - math.log(2)) / 4, abs=1e-5)


def test_areas_are_scipys():
    from scipy.integrate import trapezoid

    curve = torch.rand(3, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert area_under(curve).tolist() == pytest.approx(trapezoid(curve.numpy(), dx=1 / 16).tolist())
