"""The explanation stage with the bundled networks: results belong to the image and the seed, not to the batch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cfx.classifiers import ClassifierConfig
from cfx.methods.dime import FastDiME
from cfx.methods.maskdime import MaskDiME
from cfx.portraits import draw, render
from tasks.explain import Method, check_ladder, explain_images, null_images
from tasks.predict import classifier_for
from tasks.prior import PriorConfig, denoiser_for, prior_folder

PRIOR = prior_folder(Path(), PriorConfig(path="portraits:prior"), "")
PLANTED = ClassifierConfig(weights="portraits:planted")
IDS = [f"portrait-{i}" for i in range(64)]


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    pixels = np.stack([render(portrait) for _, portrait in draw(64, seed=8)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.mark.parametrize(
    "method", [FastDiME(steps=50, tau=8, scale=40), pytest.param(MaskDiME(steps=50, tau=8), marks=pytest.mark.slow)]
)
def test_batches_of_1_7_and_64_give_the_same_explanations(x: torch.Tensor, method: Method) -> None:
    prior, classifier = denoiser_for(PRIOR, "cpu"), classifier_for(PLANTED, "cpu")
    target = 1 - classifier(x).argmax(1)
    found = {size: explain_images(prior, classifier, x, target, (method,), IDS, 0, size)[0].x_cf for size in (64, 7, 1)}
    torch.testing.assert_close(found[7], found[64], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], found[64], atol=1e-5, rtol=0)
    assert (found[64] - x).abs().amax() > 0.1  # and they are explanations, not copies


def test_the_null_takes_the_rung_and_the_noise_of_each_image(x: torch.Tensor) -> None:
    prior, classifier = denoiser_for(PRIOR, "cpu"), classifier_for(PLANTED, "cpu")
    ladder = (FastDiME(steps=50, tau=3, scale=20), FastDiME(steps=50, tau=6, scale=20))
    target, attempt = torch.ones(4, dtype=torch.long), torch.tensor([0, 1, 0, 1])
    null, _, costs = null_images(prior, classifier, x[:4], target, ladder, attempt, IDS[:4], 0, 64)
    assert [cost.nfe_forward for cost in costs] == [3, 6, 3, 6]
    other, _, _ = null_images(prior, classifier, x[:4], 1 - target, ladder, attempt, IDS[:4], 0, 1)
    torch.testing.assert_close(null, other, atol=1e-5, rtol=0)  # without guidance the target plays no part


def test_a_ladder_of_several_methods_or_for_a_black_box_is_refused() -> None:
    classifier = classifier_for(PLANTED, "cpu")
    with pytest.raises(ValueError, match="mixes fastdime, maskdime"):
        check_ladder((FastDiME(), MaskDiME()), classifier)

    class Endpoint:
        classes = ("no", "yes")
        differentiable = False

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(x), 2)

    with pytest.raises(ValueError, match="'fastdime' needs gradients"):
        check_ladder((FastDiME(),), Endpoint())
