"""What labels tell of a classifier before it is audited: is it right more often than chance, and would another order of its
classes, or other preprocessing, make it right more often?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest
from torch import Tensor

from cfx.classifiers import TorchClassifier
from cfx.classifiers.hub import IMAGENET_MEAN, IMAGENET_STD
from cfx.targets import shortened

Ids = NDArray[np.int64]  # (n,) class ids

P = 0.01  # of an improvement by chance, over all that is tried
GAIN = 0.1  # of accuracy: less is no reason to doubt the settings
FEW, SOME = 8, 32  # images below which nothing is said of chance, and below which only accuracy at or under it is
SIDES = (32, 64, 128, 224, 299)
NORMALISED = (  # mean and std on [0, 1]: [-1, 1], [0, 1], [0, 255], ImageNet's
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ((0.0, 0.0, 0.0), (0.00392, 0.00392, 0.00392)),
    (IMAGENET_MEAN, IMAGENET_STD),
)
CAFFE = (103.939, 116.779, 123.68)  # subtracted from BGR in [0, 255] by networks that came from Caffe
FLIPPED = "with the channels in the order BGR{}: reorder them at the start of `forward`, `x.flip(1)`"
PIXELS = 2**18  # shown at once, in images as large as the network sees them: memory goes with these


@dataclass(frozen=True)
class Accuracy:
    """How many of some labelled images a classifier is right about."""

    right: int
    n: int


@dataclass(frozen=True)
class Better:
    """Another reading of a classifier's answers, which is right about more images."""

    right: int
    how: str
    classes: tuple[str, ...] = ()  # in the order that makes it so, where that is how


def accuracy_warnings(
    classifier: TorchClassifier, x: Tensor, labels: Sequence[str | None]
) -> tuple[Accuracy | None, tuple[str, ...]]:
    """The accuracy on labelled images (N, 3, H, W), if there are any, and what to say of it."""
    known = [place for place, label in enumerate(labels) if label is not None]
    if not known:
        return None, ()
    truth = np.array([classifier.classes.index(str(labels[place])) for place in known])
    seen = x[known]
    said = predicted(classifier, seen)
    others = list(_preprocessed(classifier, seen)) if enough_wrong(said, truth) else []
    return Accuracy(int((said == truth).sum()), len(truth)), warnings_of(said, truth, classifier.classes, others)


@torch.no_grad()
def predicted(classifier: TorchClassifier, x: Tensor) -> Ids:
    """The class ids of x."""
    side = classifier.network.input_size
    batch = max(1, PIXELS // (side**2 if side else x.shape[-2] * x.shape[-1]))
    ids: Ids = torch.cat([classifier(part).argmax(1) for part in x.split(batch)]).cpu().numpy()
    return ids


def warnings_of(said: Ids, truth: Ids, classes: Sequence[str], others: Sequence[tuple[str, Ids]] = ()) -> tuple[str, ...]:
    """One warning, or none where the classifier is right often enough and nothing else is better.

    others: what it says when it is shown the images otherwise, each with how.
    """
    better = [other_order(said, truth, classes), *_better(said, truth, others)]
    found = max((one for one in better if one is not None), key=lambda one: one.right, default=None)
    by_chance = no_better_than_chance(said, truth, len(classes))
    if found is None and not by_chance:
        return ()
    sentence = f"right about {(said == truth).sum()} of {len(truth)} labelled images"
    sentence += ", no better than chance" if by_chance else ""
    if found is None:
        return (f"{sentence}: check that `classes` is in the order of the outputs, and what the network is shown",)
    return (f"{sentence}, but about {found.right} {found.how}",)


def no_better_than_chance(said: Ids, truth: Ids, classes: int) -> bool:
    """Whether the mean recall of the labels is that of a classifier that does not look, or of few images below it."""
    labels, counts = np.unique(truth, return_counts=True)
    if len(truth) < FEW:
        return False
    chance = 1 / len(labels) if len(labels) > 1 else 1 / classes
    recall = np.mean([(said[truth == label] == label).mean() for label in labels])
    spread = np.sqrt(chance * (1 - chance) * (1 / counts).sum()) / len(labels)
    return bool(recall <= chance + (1.64 * spread if len(truth) >= SOME else 0))


def other_order(said: Ids, truth: Ids, classes: Sequence[str]) -> Better | None:
    """A permutation of the classes that is right more often, if there is one.

    The permutation is the assignment of outputs to labels with the most images (Kuhn 1955); each half of the images is graded
    by the permutation of the other half, because with few images a class some permutation always fits.
    """
    if not enough_wrong(said, truth):
        return None
    renamed = np.empty_like(said)
    folds = _folds(truth)
    for fold in (0, 1):
        renamed[folds == fold] = _assigned(said[folds != fold], truth[folds != fold], len(classes))[said[folds == fold]]
    if not improves(said == truth, renamed == truth, tried=1):
        return None
    names = [classes[name] for name in _assigned(said, truth, len(classes))]
    order = f"[{shortened(names)}]"
    return Better(int((renamed == truth).sum()), f"if its outputs are in the order `classes: {order}`", tuple(names))


def _folds(truth: Ids) -> Ids:
    """0 or 1 for each image, in turn within each label."""
    folds = np.zeros_like(truth)
    for label in np.unique(truth):
        folds[truth == label] = np.arange((truth == label).sum()) % 2
    return folds


def _assigned(said: Ids, truth: Ids, classes: int) -> Ids:
    """The label that each output is taken for; without evidence, the label that it has."""
    counts = 0.5 * np.eye(classes)
    np.add.at(counts, (said, truth), 1)
    found: Ids = linear_sum_assignment(counts, maximize=True)[1]
    return found


def enough_wrong(said: Ids, truth: Ids) -> bool:
    """Whether anything could be better by more than chance."""
    wrong = int((said != truth).sum())
    return wrong >= GAIN * len(truth) and 0.5**wrong < P


def _better(said: Ids, truth: Ids, others: Sequence[tuple[str, Ids]]) -> Iterator[Better]:
    for how, answers in others:
        if improves(said == truth, answers == truth, len(others)):
            yield Better(int((answers == truth).sum()), how)


def improves(before: NDArray[Any], after: NDArray[Any], tried: int) -> bool:
    """McNemar's exact test, one-sided, divided among as many as were tried (Bonferroni)."""
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    if gained - lost < GAIN * len(before):
        return False
    return bool(binomtest(gained, gained + lost, alternative="greater").pvalue < P / tried)


def _preprocessed(classifier: TorchClassifier, x: Tensor) -> Iterator[tuple[str, Ids]]:
    """What the classifier says of x prepared in other ways, each with its name; ways that it cannot take are left out."""
    network = classifier.network
    if network.channels == 3:
        yield from _flipped(classifier, x)
    for mean, std in NORMALISED:
        if network.channels == 1 and len(set(mean)) > 1:
            continue
        shift, scale = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in (mean, std))
        wanted = ((x + 1) / 2 - shift) / scale
        if not torch.allclose(wanted, x * network.gain + network.offset, rtol=1e-3, atol=1e-3):
            how = f"with `mean: {list(mean)}` and `std: {list(std)}`"
            yield how, predicted(classifier, (wanted - network.offset) / network.gain)
    for side in sorted({*SIDES, network.published_size or SIDES[0]}):
        if (side, side) != (network.input_size or x.shape[-2], network.input_size or x.shape[-1]):
            resized = _with_side(classifier, side)
            try:
                yield f"with `input_size: {side}`", predicted(resized, x)
            except (RuntimeError, ValueError, AssertionError):  # a network of one size
                continue


def _flipped(classifier: TorchClassifier, x: Tensor) -> Iterator[tuple[str, Ids]]:
    """What the classifier says of x in BGR, normalised as it is set and as Caffe's networks expect it."""
    network = classifier.network
    yield FLIPPED.format(""), predicted(classifier, x.flip(1))
    caffe = (x.flip(1) + 1) * 127.5 - torch.tensor(CAFFE, device=x.device).view(3, 1, 1)
    yield FLIPPED.format(" and in [0, 255], less Caffe's mean"), predicted(classifier, (caffe - network.offset) / network.gain)


def _with_side(classifier: TorchClassifier, side: int) -> TorchClassifier:
    """The same network, shown another size."""
    network = copy(classifier.network)
    network.input_size = side
    return TorchClassifier(network, classifier.classes, classifier.head, classifier.output, classifier.answers).eval()
