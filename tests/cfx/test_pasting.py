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
    paste = pasted(X, edit())
    inside = BOX.expand_as(X) == 1
    assert torch.allclose(paste.x_edit[inside], X[inside] + 0.4, atol=0.05)
    assert torch.equal(paste.x_edit[..., :8, :], X[..., :8, :])
    assert torch.equal(paste.x_sham[..., :8, :], X[..., :8, :])


def test_the_sham_is_redrawn_where_the_edit_is_and_nowhere_else():
    paste = pasted(X, edit())
    assert paste.x_sham[..., 24:28, 34:40].abs().max() < 1e-3
    outside = (paste.mask == 0).expand_as(X)
    assert torch.equal(paste.x_sham[outside], X[outside])


def test_an_edit_that_is_its_sham_changes_nothing():
    paste = pasted(X, Edit(SMOOTH, SMOOTH, torch.ones_like(X[:, :1])))
    assert paste.mask.max() == 0 and torch.equal(paste.x_edit, X) and torch.equal(paste.x_sham, X)


def test_a_large_change_masks_the_chatter_around_it():
    chatter = 0.02 * torch.rand(X.shape, generator=GENERATOR)
    mask = difference_mask(SMOOTH + 0.4 * BOX + chatter, SMOOTH)
    assert mask[..., :12, :].max() == 0 and mask[..., 24:28, 34:40].min() > 0.999


def test_an_image_is_pasted_alike_alone_and_in_a_batch():
    both, alone = pasted(X, edit()), pasted(X[:1], Edit(*(part[:1] for part in edit())))
    assert torch.allclose(both.x_edit[:1], alone.x_edit, atol=1e-6)


def test_a_pasted_image_stays_in_range():
    paste = pasted(X, edit(by=1.5))
    assert paste.x_edit.max() <= 1 and paste.mask.min() >= 0 and paste.mask.max() <= 1
