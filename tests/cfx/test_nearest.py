"""The nearest other class, by hand."""

import pytest
import torch

from cfx.nearest import confusion_matrix, nearest_by_confusion, nearest_in_hierarchy

CLASSES = ("tabby", "siamese", "husky", "truck")
PATHS = {
    "tabby": ("animal", "cat"),
    "siamese": ("animal", "cat"),
    "husky": ("animal", "dog"),
    "truck": ("thing", "vehicle", "lorry"),
}


def test_nearest_in_a_hierarchy_share_most_of_the_path() -> None:
    # tabby and siamese are both cats; to the husky both are animals; nothing is like a truck
    assert nearest_in_hierarchy(PATHS, CLASSES) == [[1], [0], [0, 1], []]


def test_nearest_by_confusion_counts_both_ways_as_shares() -> None:
    confusion = torch.tensor([[90, 6, 4, 0], [1, 9, 0, 0], [0, 3, 5, 2], [0, 0, 50, 950]])
    # tabby-siamese .06 + .1; siamese-husky .3; husky-truck .2 + .05
    assert nearest_by_confusion(confusion, CLASSES) == [[1], [2], [1], [2]]


def test_a_class_never_confused_has_no_nearest() -> None:
    assert nearest_by_confusion(torch.eye(3).long() * 5, ("a", "b", "c")) == [[], [], []]
    assert nearest_by_confusion(torch.zeros(2, 2), ("a", "b")) == [[], []]


def test_confusion_matrix_by_hand() -> None:
    found = confusion_matrix(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 0]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_what_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no path for zebra"):
        nearest_in_hierarchy(PATHS, (*CLASSES, "zebra"))
    with pytest.raises(ValueError, match="names husky, truck, which the classifier does not know"):
        nearest_in_hierarchy(PATHS, CLASSES[:2])
    with pytest.raises(ValueError, match=r"\(2, 2\) for 4 classes"):
        nearest_by_confusion(torch.zeros(2, 2), CLASSES)
    with pytest.raises(ValueError, match="two classes or more; there is tabby"):
        nearest_in_hierarchy({"tabby": ()}, CLASSES[:1])
