"""Explained share: how much of a classifier's answers the named attributes explain, and whether it may be cleared for them.

If the answers to the audited images cannot be predicted from what was named, something else decides them, and no verdict on the
names clears the classifier. The ceiling keeps honest ambiguity from being held against the names.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from skimage.feature import hog
from skimage.transform import resize
from sklearn import config_context
from sklearn.base import RegressorMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cfx.errors import UserError
from cfx.evidence.paired import Floats, Images

FOLDS = 8
CLIP = 0.01  # probabilities are kept this far from 0 and 1 before their log-odds are taken
BOOTSTRAPS = 1_000
FLOOR = 0.5  # names that explain less than half of the answers clear nothing, whatever the ceiling
GAP = 0.1  # of R^2: names this far under the ceiling, and not by chance, clear nothing
FEW = 24  # images; below, three a fold, no share is estimated


class Share(NamedTuple):
    """Out-of-fold R^2 of the answers from one set of inputs, with its interval over images; below 0: worse than the mean."""

    inputs: str
    r2: float
    low: float
    high: float
    model: str  # ridge or boosting, the better


class Explained(NamedTuple):
    """`names`: the share of the largest set of names. `ceiling`: of the best set of all, names included.

    cleared: False where the names explain clearly too little, or where n is too small to tell.
    """

    shares: tuple[Share, ...]
    names: Share
    ceiling: Share
    missing: tuple[float, float, float]  # ceiling minus names, paired by image: estimate, low, high
    cleared: bool
    why: str


def log_odds(p: Floats) -> Floats:
    """Of probabilities, kept CLIP away from 0 and 1.

    Examples:
        >>> log_odds(np.array([0.5, 1.0])).round(3).tolist()
        [0.0, 4.595]
    """
    clipped = np.clip(p, CLIP, 1 - CLIP)
    return np.log(clipped / (1 - clipped))


def explained(p: Floats, named: Mapping[str, Floats], unnamed: Mapping[str, Floats], confidence: float = 0.95) -> Explained:
    """Shares of P(class) (N,) explained by sets of inputs (N, K), and the decision.

    named: sets of what the user named, the largest last ("label", then "label and attributes"); of an oracle, its decisions (0 or
    1), because its probabilities carry the grain and the compression of the image along; unnamed: properties, generic
    features. The ceiling is the best of them all, the names together with the properties included: at a hundred images no generic
    feature set comes near what an image determines, so the ceiling is a lower bound, and FLOOR stands beside it.
    Raises UserError with fewer than FEW images, without names, or for numbers that are not finite.
    """
    _check(p, named, unnamed)
    y = log_odds(p)
    if np.ptp(y) < 1e-6:
        raise UserError("the classifier gives the same answer to every audited image: there is nothing to explain")
    last = list(named)[-1]
    sets = {**named, **unnamed, **{f"{last} and {other}": np.column_stack([named[last], x]) for other, x in unnamed.items()}}
    fits = {inputs: out_of_fold(x, y) for inputs, x in sets.items()}
    draws = np.random.default_rng(0).integers(0, len(y), (BOOTSTRAPS, len(y)))
    shares = {inputs: _share(inputs, y, *fit, draws, confidence) for inputs, fit in fits.items()}
    ceiling = max(shares.values(), key=lambda share: share.r2)
    gaps = r2_of(y, fits[ceiling.inputs][0], draws) - r2_of(y, fits[last][0], draws)
    low, high = np.quantile(gaps, _ends(confidence))
    missing = (ceiling.r2 - shares[last].r2, float(low), float(high))
    return Explained(tuple(shares.values()), shares[last], ceiling, missing, *_decision(shares[last], ceiling, missing))


def _decision(names: Share, ceiling: Share, missing: tuple[float, float, float]) -> tuple[bool, str]:
    if names.r2 < FLOOR:
        return False, f"what was named explains {max(names.r2, 0):.0%} of the answers, less than {FLOOR:.0%}"
    if missing[0] > GAP and missing[1] > 0:
        return False, f"what was named explains {names.r2:.0%} of the answers, {ceiling.inputs} {ceiling.r2:.0%}"
    return True, f"what was named explains {names.r2:.0%} of the answers"


def _check(p: Floats, named: Mapping[str, Floats], unnamed: Mapping[str, Floats]) -> None:
    if len(p) < FEW:
        raise UserError(f"{len(p)} images; the explained share needs {FEW} or more")
    if not named:
        raise UserError("no name to explain the answers with; give at least the label or the predicted class")
    wrong = [inputs for inputs, x in {**named, **unnamed}.items() if len(x) != len(p) or not np.isfinite(x).all()]
    if wrong:
        raise UserError(f"{', '.join(wrong)}: not one row of finite numbers for each of the {len(p)} images")


def out_of_fold(x: Floats, y: Floats) -> tuple[Floats, str]:
    """y (N,) predicted from x (N, K) by models that did not see it, FOLDS folds: the better of ridge and gradient boosting."""
    models: dict[str, RegressorMixin] = {
        "ridge": RidgeCV(np.logspace(-1, 4, 11)),
        "boosting": GradientBoostingRegressor(n_estimators=60, max_depth=2, subsample=0.7, max_features=0.5, random_state=0),
    }
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    with config_context(assume_finite=True, skip_parameter_validation=True):  # `_check` has looked, once and not in every tree
        predicted = {
            name: cross_val_predict(make_pipeline(StandardScaler(), model), x, y, cv=folds) for name, model in models.items()
        }
    best = min(predicted, key=lambda name: float(((y - predicted[name]) ** 2).sum()))
    return predicted[best], best


def r2_of(y: Floats, predicted: Floats, draws: NDArray[np.int64]) -> Floats:
    """R^2 on each row of draws (R, N), indices of images."""
    left = ((y - predicted) ** 2)[draws].mean(1)
    return 1 - left / np.maximum(y[draws].var(1), 1e-12)


def _share(inputs: str, y: Floats, predicted: Floats, model: str, draws: NDArray[np.int64], confidence: float) -> Share:
    r2 = float(r2_of(y, predicted, np.arange(len(y))[None])[0])
    low, high = np.quantile(r2_of(y, predicted, draws), _ends(confidence))
    return Share(inputs, r2, float(low), float(high), model)


def _ends(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2


def generic_features(images: Images, components: int = 16) -> Floats:
    """What an image shows, without a word for it: (N, <= 4 * components), each block reduced by principal components.

    Pixels of 12 x 12 with colour; oriented gradients (Dalal and Triggs 2005); energies of 8 x 8 cosine coefficients (grain, blur,
    compression); colour histograms. images: (N, H, W, C) uint8.
    """
    small = np.stack([resize(image / 255, (12, 12), anti_aliasing=True).ravel() for image in images])
    grey = images.mean(3) / 255
    gradients = np.stack(
        [hog(resize(image, (48, 48), anti_aliasing=True), pixels_per_cell=(8, 8), cells_per_block=(2, 2)) for image in grey]
    )
    blocks = (small, gradients, np.stack([_spectrum(image) for image in grey]), np.stack([_histogram(image) for image in images]))
    return np.column_stack([_reduced(block, components) for block in blocks])


def _reduced(block: Floats, components: int) -> Floats:
    kept = min(components, len(block) - 1, block.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # identical images have no variance to explain
        return PCA(kept, random_state=0).fit_transform(block)


def _spectrum(grey: Floats) -> Floats:
    rows, columns = (side // 8 for side in grey.shape)
    blocks = grey[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8)
    return np.log(np.abs(dctn(blocks, axes=(1, 3), norm="ortho")).mean((0, 2)) + 1e-3).ravel()


def _histogram(image: NDArray[np.uint8]) -> Floats:
    counts = [np.histogram(channel, 16, (0, 256))[0] for channel in np.moveaxis(image, 2, 0)]
    return np.sqrt(np.concatenate(counts) / image[..., 0].size)
