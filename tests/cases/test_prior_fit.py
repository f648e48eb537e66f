"""A prior that does not fit the images stops the audit, with the numbers; one that fits says nothing.

The limits were fixed on Portraits, photographs, gradients and noise (`tasks/advice/prior_fit.py`); the images of the first table were
kept apart from that.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from diffusers import UNet2DModel
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from cfx.classifiers import ClassifierConfig
from cfx.diffusion.ddpm import DDPM, Schedule, load_ddpm, save_ddpm
from cfx.diffusion.training import PriorTraining, build_unet
from cfx.errors import ConfigError, UserError
from cfx.methods.dime import FastDiME
from cfx.portraits import render, sample
from cfx.types import Classifier
from tasks.advice.prior_check import size_warnings
from tasks.advice.prior_fit import AGAIN, Change, Filtered, blurs, change, check_fit, filtered
from tasks.check import check
from tasks.config import AuditConfig
from tasks.networks import classifier_for
from tasks.shard_images import Images
from tests.toys import gaussian_prior

BUNDLED = Path(str(files("cfx"))) / "weights/portraits/prior"
SHALLOW, DEEP = 4, 18  # tau of 50; the demo's is 18


@pytest.fixture(scope="module")
def bundled() -> DDPM:
    return load_ddpm(BUNDLED)


@pytest.fixture(scope="module")
def planted() -> Classifier:
    return classifier_for(ClassifierConfig(weights="portraits:planted"), "cpu")


def portraits(n: int = 8) -> Tensor:
    rng = np.random.default_rng(11)
    return torch.stack([torch.tensor(render(sample(rng), 64)).permute(2, 0, 1) for _ in range(n)]).float() / 127.5 - 1


def small(image: Any) -> Tensor:
    """(3, 64, 64) of a grey or RGB array."""
    resized = np.asarray(Image.fromarray(np.asarray(image)).convert("RGB").resize((64, 64), Image.Resampling.LANCZOS))
    return torch.tensor(resized).permute(2, 0, 1).float() / 127.5 - 1


def digits() -> Tensor:
    return torch.stack([small((image * 15).astype(np.uint8)) for image in load_digits().images[:8]])


def textures() -> Tensor:
    whole = [image() for image in (skimage.data.brick, skimage.data.grass, skimage.data.gravel, skimage.data.moon)]
    return torch.stack([small(part) for image in whole for part in (image[:256, :256], image[256:, 256:])])


def text() -> Tensor:
    return torch.stack([small(skimage.data.page()[:, x : x + 190]) for x in range(0, 190, 25)])


def silhouettes() -> Tensor:
    horse = (skimage.data.horse() * 255).astype(np.uint8)
    return torch.stack([small(np.roll(horse, 20 * i, axis=1)) for i in range(8)])


KINDS: dict[str, tuple[Callable[[], Tensor], bool]] = {
    "other portraits": (portraits, True),
    "darker portraits": (lambda: portraits() * 0.8 - 0.1, True),
    "mirrored portraits": (lambda: portraits().flip(3), True),
    "digits": (digits, False),
    "textures": (textures, False),
    "text": (text, False),
    "silhouettes": (silhouettes, False),
    "portraits, blue for red": (lambda: portraits().flip(1), False),
    "negatives": (lambda: -portraits(), False),
}


@pytest.mark.parametrize("tau", [SHALLOW, DEEP])
@pytest.mark.parametrize(("images", "fits"), KINDS.values(), ids=KINDS)
def test_kinds_of_images(bundled: DDPM, images: Callable[[], Tensor], fits: bool, tau: int) -> None:
    found = filtered(bundled, None, Images([str(i) for i in range(8)], images()), 50, tau)
    print(found, found.change.distance / found.blurred.distance)
    assert found.misfit != fits, found
