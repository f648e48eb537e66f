"""Pasting an edit: the image keeps all that the edit did not change beyond its sham."""

import torch

from cfx.attributes.pasting import difference_mask, pasted
from cfx.types import Edit

GENERATOR = torch.Generator().manual_seed(5)
X = torch.rand(2, 3, 64, 64, generator=GENERATOR) - 0.5  # grain
SMOOTH = torch.zeros_like(X)  # a redrawing that loses the grain
BOX = torch.zeros(1, 1, 64, 64)
BOX[..., 20:32, 30:44] = 1.0


def edit(by: float = 0.4) -> Edit:
    return Edit(SMOOTH + by * BOX, SMOOTH, torch.ones_like(X[:, :1]))


def test_the_image_keeps_its_grain_under_the_edit_and_itself_elsewhere():
    x_pasted = pasted(X, edit())
    inside = BOX.expand_as(X) == 1
    assert torch.allclose(x_pasted[inside], X[inside] + 0.4, atol=0.05)
    outside = (difference_mask(*edit()[:2]) == 0).expand_as(X)
    assert outside.float().mean() > 0.8 and torch.equal(x_pasted[outside], X[outside])


def test_an_edit_that_is_its_sham_changes_nothing():
    assert torch.equal(pasted(X, Edit(SMOOTH, SMOOTH, torch.ones_like(X[:, :1]))), X)


def test_an_image_that_was_redrawn_exactly_becomes_its_edit():
    x_edit = X + 0.4 * BOX
    assert torch.allclose(pasted(X, Edit(x_edit, X, torch.ones_like(X[:, :1]))), x_edit, atol=0.05)


def test_a_large_change_masks_the_chatter_around_it():
    chatter = 0.02 * torch.rand(X.shape, generator=GENERATOR)
    mask = difference_mask(SMOOTH + 0.4 * BOX + chatter, SMOOTH)
    assert mask[..., :12, :].max() == 0 and mask[..., 24:28, 34:40].min() > 0.999
    assert mask.min() >= 0 and mask.max() <= 1


def test_an_image_is_pasted_alike_alone_and_in_a_batch():
    alone = pasted(X[:1], Edit(*(part[:1] for part in edit())))
    assert torch.allclose(pasted(X, edit())[:1], alone, atol=1e-6)


def test_a_pasted_image_stays_in_range():
    assert pasted(X, edit(by=1.5)).max() == 1
