"""Explained share: names that decide explain, names that do not may not clear."""

import numpy as np
import pytest

from cfx.errors import UserError
from cfx.evidence.explained import explained, generic_features, log_odds, out_of_fold

N = 96
CHANCE = np.random.default_rng(2)
ATTRIBUTES = (CHANCE.random((N, 4)) < 0.5).astype(float)
LABEL = ATTRIBUTES[:, :1]
HIDDEN = CHANCE.normal(0, 1, (N, 3))


def answered(score):
    return 1 / (1 + np.exp(-score))


def shares(p, hidden=HIDDEN):
    return explained(p, {"attributes": ATTRIBUTES}, {"properties": hidden})


def test_what_the_names_decide_they_explain():
    result = shares(answered(4 * LABEL[:, 0] - 2 + 0.3 * CHANCE.normal(0, 1, N)))
    assert result.names.r2 > 0.9
    assert result.cleared
    assert "explains 9" in result.why


def test_what_something_else_decides_is_not_cleared():
    result = shares(answered(2 * HIDDEN[:, 0]))
    assert result.names.r2 < 0.1 < 0.8 < result.ceiling.r2
    assert result.missing[1] > 0.5
    assert not result.cleared
    assert "less than 50%" in result.why


def test_more_than_half_is_too_little_where_more_can_be_explained():
    result = shares(answered(2.4 * LABEL[:, 0] - 1.2 + 0.8 * HIDDEN[:, 0]))
    assert 0.5 < result.names.r2 < result.ceiling.r2 - 0.1
    assert not result.cleared


def test_honest_ambiguity_is_not_held_against_the_names():
    result = shares(answered(4 * LABEL[:, 0] - 2 + 1.2 * CHANCE.normal(0, 1, N)))
    assert 0.5 < result.names.r2 < 0.9
    assert result.cleared


def test_the_ceiling_is_no_lower_than_any_share():
    result = shares(answered(HIDDEN[:, 1] + LABEL[:, 0]))
    assert result.ceiling.r2 == max(share.r2 for share in result.shares)
    assert [share.inputs for share in result.shares] == ["attributes", "properties", "attributes and properties"]
    assert all(share.low <= share.r2 <= share.high for share in result.shares)
    assert result.missing[0] == pytest.approx(result.ceiling.r2 - result.names.r2)


def test_no_share_comes_from_an_image_that_was_fitted():
    noise = CHANCE.normal(0, 1, (N, 60))
    predicted, _ = out_of_fold(noise, CHANCE.normal(0, 1, N))
    assert np.corrcoef(predicted, noise[:, 0])[0, 1] < 0.99
    assert shares(answered(CHANCE.normal(0, 1, N)), noise).ceiling.r2 < 0.15


def test_bad_input_is_refused():
    with pytest.raises(UserError, match="24 or more"):
        explained(np.full(8, 0.5), {"label": LABEL[:8]}, {})
    with pytest.raises(UserError, match="no name"):
        explained(answered(HIDDEN[:, 0]), {}, {})
    with pytest.raises(UserError, match="same answer"):
        explained(np.full(N, 0.5), {"label": LABEL}, {})
    with pytest.raises(UserError, match="properties: not one row"):
        explained(answered(HIDDEN[:, 0]), {"label": LABEL}, {"properties": np.full((N, 1), np.nan)})


def test_log_odds_are_clipped():
    assert log_odds(np.array([0.0, 0.5, 1.0])) == pytest.approx([-np.log(99), 0, np.log(99)])


@pytest.mark.parametrize("channels", [1, 3])
def test_generic_features_are_finite_and_see_grain_and_colour(channels):
    images = np.random.default_rng(0).integers(100, 120, (30, 64, 48, channels)).astype(np.uint8)
    images[::2] = images[::2].mean((1, 2), keepdims=True)
    features = generic_features(images)
    assert np.isfinite(features).all()
    predicted, _ = out_of_fold(features, (np.arange(30) % 2).astype(np.float64))
    assert np.corrcoef(predicted, np.arange(30) % 2)[0, 1] > 0.9


def test_constant_images_have_finite_features():
    assert np.isfinite(generic_features(np.full((25, 32, 32, 3), 90, np.uint8))).all()
