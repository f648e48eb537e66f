"""What no attribute names: the cells that an oracle of known attention looks at, and what is kept of a change."""

import torch
from torch import Tensor

from cfx.attributes.outside import CELLS, mean_in_cells, named_cells, residual


def corner(x: Tensor) -> Tensor:
    """An attribute that is the mean of the upper left quarter and nothing else; sin, so that it never saturates."""
    return (0.5 + 0.5 * torch.sin(20 * x[:, :, :16, :16].mean((1, 2, 3))))[:, None]


def images(n: int = 12) -> Tensor:
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_cells_that_touch_what_the_oracle_looks_at_are_named_and_no_others() -> None:
    named = named_cells(corner, images())
    expected = torch.zeros(CELLS, CELLS, dtype=torch.bool)
    expected[:5, :5] = True  # 16 of 32 pixels are 4 of 8 cells; half a cell around reaches into one more
    assert torch.equal(named, expected)


def test_an_oracle_that_looks_at_nothing_names_nothing_and_one_image_names_all() -> None:
    assert not named_cells(lambda x: torch.full((len(x), 2), 0.5), images()).any()
    assert named_cells(corner, images(1)).all()


def test_only_what_changed_outside_the_named_cells_is_kept() -> None:
    x = images(2)
    named = torch.zeros(CELLS, CELLS, dtype=torch.bool)
    named[0, 1] = True
    kept = residual(x, -x, named)
    assert torch.equal(kept[:, :, :4, 4:8], x[:, :, :4, 4:8])
    assert torch.equal(kept[:, :, 4:], -x[:, :, 4:]) and torch.equal(kept[:, :, :4, :4], -x[:, :, :4, :4])


def test_means_in_cells_are_those_of_their_pixels() -> None:
    values = torch.arange(2 * 16 * 16).float().view(2, 16, 16)
    assert torch.equal(mean_in_cells(values)[1, 3, 5], values[1, 6:8, 10:12].mean())
