"""Reweighing: of a biased table no attribute goes with a class any more, and what is taught from it follows the bias less."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.images import from_uint8
from cfx.training.augment import Augmentation
from cfx.training.balance import MOST, balancing_weights
from cfx.training.classifier import ClassifierTraining, train_classifier


def shares(weights: torch.Tensor, classes: torch.Tensor, attribute: torch.Tensor) -> list[float]:
    """How often each class has the attribute, drawn by the weights."""
    return [float((weights * attribute)[classes == k].sum() / weights[classes == k].sum()) for k in classes.unique()]


def test_several_attributes_at_once() -> None:
    chance = torch.Generator().manual_seed(0)
    classes = torch.randint(3, (900,), generator=chance)
    has = torch.stack([torch.rand(900, generator=chance) < (0.2 + 0.3 * classes) * slope for slope in (1.0, 0.4)], 1).long()
    has[:, 1] |= has[:, 0] & (torch.rand(900, generator=chance) < 0.5).long()
    weights, balanced = balancing_weights(classes, has)
    assert balanced == [0, 1] and float(weights.mean()) == pytest.approx(1)
    for column in has.T:
        assert shares(weights, classes, column) == pytest.approx([float(column.double().mean())] * 3, abs=0.01)
    assert [float(weights[classes == k].sum() / 900) for k in range(3)] == pytest.approx(
        [float((classes == k).double().mean()) for k in range(3)], abs=0.01
    )


def test_the_class_itself_is_left_out_and_a_balanced_table_as_it_is() -> None:
    classes = torch.tensor([0, 0, 1, 1] * 10)
    weights, balanced = balancing_weights(classes, torch.stack([classes, torch.tensor([0, 1] * 20)], 1))
    assert balanced == [1] and torch.equal(weights, torch.ones(40, dtype=torch.float64))


def test_one_image_does_not_count_as_hundreds() -> None:
    classes = torch.tensor([0] * 500 + [1] * 500)
    has = classes[:, None].clone()
    has[0], has[-1] = 1, 0
    weights, _ = balancing_weights(classes, has)
    assert float(weights.max() / weights.min()) <= 2 * MOST * 1.01


def test_a_network_follows_a_tag_less(tmp_path: Path) -> None:
    chance = torch.Generator().manual_seed(1)
    classes = torch.arange(400) % 2
    images = torch.randint(0, 256, (400, 3, 16, 16), generator=chance, dtype=torch.uint8)
    middle = images[classes == 1, :, 5:11, 5:11]
    images[classes == 1, :, 5:11, 5:11] = (middle * 0.85).to(torch.uint8)  # the class: a middle that is a little darker
    tagged = (classes == 1) ^ (torch.rand(400, generator=chance) < 0.1)
    with_tag = images.clone()
    with_tag[:, :, 12:, 12:] = 255
    taught = torch.where(tagged[:, None, None, None], with_tag, images)
    still = Augmentation(shift=0, zoom=0, blur=0, contrast=0, brightness=0, noise=0, erase=0)
    training = ClassifierTraining(widths=(8, 16), steps=200, augmentation=still)
    effects = []
    for name, weights in (("as it is", None), ("balanced", balancing_weights(classes, tagged[:, None].long())[0])):
        to = tmp_path / f"{name}.safetensors"
        network = load_classifier(
            ClassifierConfig(weights=train_classifier(taught, classes, training, ("no", "yes"), to, weights=weights))
        )
        p = [network(from_uint8(part)).softmax(1)[:, 1] for part in (images, with_tag)]
        effects.append(float((p[1] - p[0]).mean()))
    assert effects[0] > 0.3 and effects[1] < 0.75 * effects[0]
