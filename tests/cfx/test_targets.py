"""Which class a counterfactual aims at, by hand."""

import pytest
import torch

from cfx.targets import check_target, choose_targets

CLASSES = ("tabby", "siamese", "husky", "truck")
PATHS = {"tabby": ("animal", "cat"), "siamese": ("animal", "cat"), "husky": ("animal", "dog"), "truck": ("thing",)}
NEAREST = [[1], [0], [0, 1], []]
LOGITS = torch.tensor([[5.0, 0.0, 4.0, 3.0], [0.0, 1.0, 2.0, 0.5], [2.0, 1.0, 3.0, 2.5], [0.0, 0.1, -1.0, 4.0]])


def test_each_policy() -> None:
    assert choose_targets(LOGITS, "second-best", CLASSES).tolist() == [2, 1, 3, 1]
    assert choose_targets(LOGITS, "husky", CLASSES).tolist() == [2, 2, 2, 2]
    # of a tabby the siamese, however improbable; of a husky the likelier cat; of a truck, which is near nothing, the runner-up
    for policy in ("nearest-in-hierarchy", "most-confused"):
        assert choose_targets(LOGITS, policy, CLASSES, NEAREST).tolist() == [1, 1, 0, 1]
    assert choose_targets(LOGITS[:, :2], "opposite", CLASSES[:2]).tolist() == [1, 0, 1, 0]


def test_probabilities_and_one_column_of_a_multi_label_network_do_as_well() -> None:
    assert choose_targets(LOGITS.softmax(1), "second-best", CLASSES).tolist() == [2, 1, 3, 1]
    log_odds = torch.tensor([-3.0, 0.2, 0.0])  # as TorchClassifier gives them: [0, l]
    binary = torch.stack([torch.zeros(3), log_odds], dim=1)
    assert choose_targets(binary, "opposite", ("no", "yes")).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("policy", "classes", "more", "message"),
    [
        ("opposite", CLASSES, {}, "needs two classes, but the classifier has 4"),
        ("poodle", CLASSES, {}, "unknown target class 'poodle'; use 'opposite', 'second-best', 'each', 'nearest-in-hierarchy'"),
        ("nearest-in-hierarchy", CLASSES, {}, "needs `hierarchy`"),
        ("nearest-in-hierarchy", CLASSES, {"hierarchy": {"tabby": ("cat",)}}, "no path for siamese, husky, truck"),
        ("second-best", CLASSES, {"hierarchy": PATHS}, "`hierarchy` is for target 'nearest-in-hierarchy'"),
        ("most-confused", CLASSES, {}, "set `data.label_column`"),
        ("most-confused", CLASSES, {"labels": ("tabby", "0")}, "the labels 0 are none of the classifier's classes"),
        ("poodle", tuple(map(str, range(1000))), {}, r"'14' … \(1005 in all\)"),
    ],
)
def test_what_does_not_fit_is_reported_with_the_way_out(policy, classes, more, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_target(policy, classes, **more)


def test_what_fits_is_silent() -> None:
    check_target("nearest-in-hierarchy", CLASSES, PATHS, ("1", "2"))
    check_target("most-confused", CLASSES, None, ("tabby", "truck"))
    check_target("second-best", CLASSES)


def test_one_image_alone_has_no_audit_to_ask() -> None:
    with pytest.raises(ValueError, match="'most-confused' is worked out for a whole audit"):
        choose_targets(LOGITS, "most-confused", CLASSES)


def test_each_other_class_is_aimed_at_by_as_many_images_whoever_is_beside_them() -> None:
    names, n = tuple(f"class {i}" for i in range(10)), 900
    logits = torch.nn.functional.one_hot(torch.arange(n) % 10, 10).float()
    ids = [f"image {i}" for i in range(n)]
    targets = choose_targets(logits, "each", names, image_ids=ids)
    assert (targets != logits.argmax(1)).all()
    counts = torch.bincount(targets, minlength=10)
    assert counts.min() > 60 and counts.max() < 120  # 90 each, with a standard deviation of 9
    assert torch.equal(choose_targets(logits[7:20], "each", names, image_ids=ids[7:20]), targets[7:20])
    assert choose_targets(logits[:, :2], "each", names[:2], image_ids=ids)[:2].tolist() == [1, 0]
    with pytest.raises(ValueError, match="'each' is for a whole audit"):
        choose_targets(logits, "each", names)
