"""IM1 and IM2: the worked example, NumPy's answer, and autoencoders that know their own class."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cfx.autoencoder import AutoencoderTraining, load_autoencoders, train_autoencoders
from cfx.metrics.plausibility import im1, im2

X = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
BY_SOURCE, BY_TARGET, BY_ALL = (torch.tensor([row]) for row in ([0.5, 0.1, 0.9, 0.1], [0.9, 0.0, 1.0, 0.2], [0.9, 0.1, 0.8, 0.2]))


def test_worked_example() -> None:
    assert im1(X, BY_TARGET, BY_SOURCE).item() == pytest.approx(0.05 / 0.28)
    assert im2(X, BY_TARGET, BY_ALL).item() == pytest.approx(0.05 / 2)


def test_images_are_measured_one_by_one_as_numpy_takes_them() -> None:
    generator = torch.Generator().manual_seed(0)
    x, a, b = (torch.rand(3, 3, 4, 4, generator=generator) for _ in range(3))
    for i in range(3):
        p, q, r = (part[i].double().numpy().ravel() for part in (x, a, b))
        assert im1(x, a, b)[i].item() == pytest.approx(np.linalg.norm(p - q) ** 2 / np.linalg.norm(p - r) ** 2, rel=1e-6)
        assert im2(x, a, b)[i].item() == pytest.approx(np.linalg.norm(q - r) ** 2 / np.abs(p).sum(), rel=1e-6)


def test_a_black_image_divides_by_no_zero() -> None:
    assert im2(torch.zeros(1, 4), torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0.0
    assert im1(torch.zeros(1, 4), torch.zeros(1, 4), torch.zeros(1, 4)).item() == 0.0


def stripes(n: int, along: int) -> torch.Tensor:
    """Striped images (n, 3, 16, 16) uint8 of any phase, along rows (2) or columns (3)."""
    phases = torch.arange(n)[:, None] * 0.7
    wave = ((torch.arange(16)[None] * 0.8 + phases).sin() * 120 + 128).to(torch.uint8)
    shape = [n, 1, 1, 1]
    shape[along] = 16
    return wave.view(shape).expand(n, 3, 16, 16)


def test_each_autoencoder_knows_its_own_class_and_training_repeats_itself(tmp_path: Path) -> None:
    images, labels = torch.cat([stripes(24, 2), stripes(24, 3)]), ["rows"] * 24 + ["columns"] * 24
    training = AutoencoderTraining(width=8, code=4, steps=80, batch=8, learning_rate=1e-2)
    paths = [
        train_autoencoders(images, labels, ("rows", "columns"), training, tmp_path / f"{i}.safetensors", "cpu") for i in range(2)
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    networks, x = load_autoencoders(paths[0]), stripes(24, 2).float() / 127.5 - 1
    shown, own, other = ((part + 1) / 2 for part in (x, networks.reconstruct(x, "rows"), networks.reconstruct(x, "columns")))
    assert im1(shown, own, other).mean() < 0.5
    with pytest.raises(ValueError, match="no image of class 'dots' to train its autoencoder on"):
        train_autoencoders(images, labels, ("rows", "dots"), training, tmp_path / "never", "cpu")
