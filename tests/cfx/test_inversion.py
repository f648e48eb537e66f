"""DDIM inversion on an exact prior: what it starts from comes back, and chance has no part in it."""

import math

import pytest
import torch

from cfx.diffusion.ddpm import DDPM
from cfx.diffusion.flow import Flow
from cfx.diffusion.inversion import ddim_inversion
from cfx.methods.maskdime import MaskDiME, maskdime
from cfx.random import ImageNoise
from tasks.cost import Counted
from tests.toys import Linear, Velocity, gaussian_prior


@pytest.mark.parametrize(
    "prior", [gaussian_prior(500), DDPM(Velocity(), Flow(shift=3.0), channels=3, steps=200)], ids=["ddpm", "flow"]
)
def test_an_inverted_image_is_sampled_again(prior: DDPM) -> None:
    x, tau = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.3, 120
    counted = Counted(prior)
    z = ddim_inversion(counted, x, tau - 1)
    assert counted.forward == 2 * tau
    level = float(prior.alphas_cumprod[tau - 1])
    # of a Gaussian the deterministic path keeps how many deviations a pixel is from the mean
    expected = x / 0.5 * math.sqrt(0.25 * level + 1 - level)
    torch.testing.assert_close(z, expected, atol=0.02, rtol=0)
    for t in reversed(range(tau)):
        step = prior.step(z, t)
        before = float(prior.alphas_cumprod[t - 1]) if t else 1.0
        x0 = (z - math.sqrt(1 - float(prior.alphas_cumprod[t])) * step.eps) / math.sqrt(prior.alphas_cumprod[t])
        z = math.sqrt(before) * x0 + math.sqrt(1 - before) * step.eps
    torch.testing.assert_close(z, x, atol=0.02, rtol=0)


def test_what_is_inverted_does_not_depend_on_chance() -> None:
    x, up = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.2, torch.ones(2, dtype=torch.long)
    inverted = MaskDiME(steps=50, tau=9, scale=4, share=0.5, dilation=1, start="ddim")

    def found(method: MaskDiME, seed: int) -> torch.Tensor:
        return maskdime(gaussian_prior(), Linear(), x, up, method, ImageNoise.of(["a", "b"], seed)).x_cf

    torch.testing.assert_close(found(inverted, 0), found(inverted, 1))
    noised = inverted.model_copy(update={"start": "noise"})
    assert (found(noised, 0) - found(noised, 1)).abs().max() > 0.05
