"""Pieces of a counterfactual: which of its changes did the work."""

import pytest
import torch

from cfx.attributes.pieces import pieces
from cfx.errors import UserError

X = torch.zeros(3, 32, 32)


def changed(*boxes: tuple[int, int, int, int], by: float = 0.5) -> torch.Tensor:
    x_cf = X.clone()
    for top, bottom, left, right in boxes:
        x_cf[:, top:bottom, left:right] = by
    return x_cf


def test_each_change_is_a_piece_alone_and_all_but_it():
    small, large = (2, 6, 2, 6), (20, 30, 20, 30)
    first, second = pieces(X, changed(small, large))
    assert torch.equal(first.alone, changed(large)) and torch.equal(first.without, changed(small))
    assert torch.equal(second.alone, changed(small)) and torch.equal(second.without, changed(large))
    assert second.centre == pytest.approx((4 / 32, 4 / 32))


def test_pieces_do_not_overlap_and_put_together_are_the_counterfactual():
    x_cf = changed((2, 6, 2, 6), (2, 6, 20, 25), (20, 30, 8, 12))
    found = pieces(X, x_cf)
    assert torch.stack([piece.mask.int() for piece in found]).sum(0).max() == 1
    assert torch.equal(X + torch.stack([piece.alone - X for piece in found]).sum(0), x_cf)


def test_the_classifier_says_which_piece_did_the_work():
    def score(x: torch.Tensor) -> float:
        return float(x[:, 2:6, 2:6].mean())  # looks at the upper left and nowhere else

    other, work = pieces(X, changed((2, 6, 2, 6), (20, 30, 20, 30)))
    assert (score(work.alone), score(work.without)) == (0.5, 0.0)
    assert (score(other.alone), score(other.without)) == (0.0, 0.5)


def test_specks_faint_changes_and_all_after_the_largest_are_left_out():
    speck = (12, 13, 12, 13)
    assert len(pieces(X, changed(speck), smallest=0.01)) == 0
    assert len(pieces(X, changed((2, 6, 2, 6), by=0.05))) == 0
    assert len(pieces(X, changed(*((row, row + 2, 4, 8) for row in range(2, 30, 6))), most=3)) == 3
    assert pieces(X, X) == []


def test_images_of_two_shapes_are_refused():
    with pytest.raises(UserError, match="one shape"):
        pieces(X, X[:, :16])
