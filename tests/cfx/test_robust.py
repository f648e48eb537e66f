"""Adversarial training on toy images: the attack by hand, and a network that withstands it."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from cfx.checkpoint import read_facts
from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.training.augment import Augmentation
from cfx.training.robust import RobustTraining, l2_attack, train_robust
from tests.toys import Linear

TOY = RobustTraining(widths=(8, 8), grid=2, steps=40, batch=16, epsilon=0.5, attack_steps=3, augmentation=Augmentation(erase=0))


class LinearNetwork(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Linear()(x)


def bright_or_dark(n: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose class is their brightness, (N, 3, 16, 16) uint8, and (N,) class ids."""
    labels = torch.arange(n) % 2
    grain = torch.randint(-20, 20, (n, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    return (90 + 70 * labels.view(-1, 1, 1, 1) + grain).to(torch.uint8), labels


def test_the_attack_on_a_linear_network_by_hand() -> None:
    # away from class 1 along minus the weights, to the rim of the ball: epsilon .5 on [0, 1] is 1 on [-1, 1]
    x, weight = torch.zeros(2, 3, 8, 8), Linear().weight
    attacked = l2_attack(LinearNetwork(), x, torch.tensor([1, 0]), 0.5, 5, torch.ones_like(x))
    torch.testing.assert_close(attacked[0], -weight / weight.norm(), atol=3e-2, rtol=0)
    torch.testing.assert_close(attacked[1], weight / weight.norm(), atol=3e-2, rtol=0)


def test_the_attack_stays_in_the_ball_and_the_range_and_hurts() -> None:
    x = (torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.7).clamp(-1, 1)
    labels = torch.tensor([0, 1, 0, 1])
    attacked = l2_attack(LinearNetwork(), x, labels, 0.4, 4, torch.ones_like(x))
    assert ((attacked - x).flatten(1).norm(dim=1) <= 0.8 + 1e-5).all() and attacked.abs().max() <= 1
    before, after = (cross_entropy(Linear()(each), labels, reduction="none") for each in (x, attacked))
    assert (after > before).all()


def test_a_trained_network_loads_as_a_classifier_and_withstands_the_attack(tmp_path: Path) -> None:
    images, labels = bright_or_dark()
    losses: list[float] = []
    path = train_robust(
        images, labels, TOY, ("dark", "bright"), tmp_path / "robust.safetensors", lambda _, loss: losses.append(loss)
    )
    facts = read_facts(path)
    assert facts["accuracy"] == 1.0 and facts["robust_accuracy"] == 1.0
    assert len(losses) == 40
    classifier = load_classifier(ClassifierConfig(weights=str(path)))
    assert classifier.classes == ("dark", "bright")
    assert (classifier(images.float() / 127.5 - 1).argmax(1) == labels).all()


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    images, labels = bright_or_dark()
    short = TOY.model_copy(update={"steps": 3})
    written = [
        train_robust(images, labels, short.model_copy(update={"seed": seed}), ("dark", "bright"), tmp_path / name).read_bytes()
        for name, seed in (("a.safetensors", 0), ("b.safetensors", 0), ("c.safetensors", 1))
    ]
    assert written[0] == written[1] != written[2]


def test_what_cannot_be_trained_on_is_refused_by_name(tmp_path: Path) -> None:
    images, labels = bright_or_dark()
    with pytest.raises(ValueError, match="9 images with 9 labels"):
        train_robust(images[:9], labels[:9], TOY, ("dark", "bright"), tmp_path / "r.safetensors")
    with pytest.raises(ValueError, match="labels run from 0 to 1, but the classes are dark"):
        train_robust(images, labels, TOY, ("dark",), tmp_path / "r.safetensors")
