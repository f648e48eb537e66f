"""Straight paths as a diffusion model: by hand, beside the same model as a DDPM, and beside diffusers' own scheduler."""

import math
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler
from torch import nn

from cfx.diffusion.ddpm import DDPM, Schedule
from cfx.diffusion.flow import Flow
from cfx.diffusion.flow_scheduler import read_flow
from cfx.errors import UserError
from cfx.methods.dime import denoise
from cfx.methods.maskdime import MaskDiME, maskdime
from cfx.random import ImageNoise
from tests.toys import Linear, Says, Velocity

IDS = [f"image-{i}" for i in range(2)]


def states() -> torch.Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


class Same(nn.Module):
    """The clean estimate of a flow's network, at the steps of a DDPM with the same noise."""

    def __init__(self, flow: DDPM) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, z: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return self.flow.step(z, int(timesteps[0])).x0


def both(steps: int = 20, shift: float = 3.0) -> tuple[DDPM, DDPM]:
    """A flow, and the same posterior means as a DDPM that predicts the clean image, over betas of the same noise."""
    flow = DDPM(Velocity(), Flow(shift=shift), channels=3, steps=steps)
    betas = tuple(flow.betas.tolist())
    schedule = Schedule(num_train_timesteps=steps, trained_betas=betas, prediction_type="sample", clip_sample=False)
    return flow, DDPM(Same(flow), schedule, channels=3)


def test_a_step_by_hand() -> None:
    # s = 1/2 of two steps: n = sqrt(1/2), x_s = n z = 1 sqrt(1/2); v = .2: x0 = x_s - s v, eps = x_s + (1 - s) v
    flow = DDPM(Says(0.2), Flow(), channels=3, steps=2)
    assert flow.timesteps == [500.0, 1000.0]
    torch.testing.assert_close(flow.alphas_cumprod, torch.tensor([0.5, 0.0], dtype=torch.float64))
    step = flow.step(torch.ones(1, 3, 2, 2), 0)
    torch.testing.assert_close(step.x0, torch.full((1, 3, 2, 2), math.sqrt(0.5) - 0.1))
    torch.testing.assert_close(step.eps, torch.full((1, 3, 2, 2), math.sqrt(0.5) + 0.1))
    torch.testing.assert_close(step.mean, step.x0)  # from the first step the image is clean


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_noise_and_timesteps_are_diffusers(shift: float) -> None:
    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=[0.25, 0.5, 0.75, 1.0][::-1])
    ours = DDPM(Says(0.0), Flow(shift=shift), channels=3, steps=4)
    torch.testing.assert_close(torch.tensor(ours.timesteps), theirs.timesteps.flip(0))
    x, noise = torch.ones(1, 3, 2, 2), torch.full((1, 3, 2, 2), -2.0)
    for t in range(3):
        signal, sigma = ours.amounts(t)
        state = ours.schedule.state(signal * x + sigma * noise, signal, sigma)
        torch.testing.assert_close(state, theirs.scale_noise(x, theirs.timesteps[3 - t][None], noise))


def test_the_exact_velocity_gives_the_posterior_mean() -> None:
    flow = DDPM(Velocity(mean=0.3, variance=0.5), Flow(), channels=3, steps=10)
    z, level = states(), float(flow.alphas_cumprod[6])
    expected = 0.3 + 0.5 * level**0.5 / (0.5 * level + 1 - level) * (z - level**0.5 * 0.3)
    torch.testing.assert_close(flow.step(z, 6).x0, expected, atol=1e-6, rtol=0)


def test_a_flow_and_a_ddpm_of_the_same_noise_agree() -> None:
    flow, ddpm = both()
    torch.testing.assert_close(flow.alphas_cumprod, ddpm.alphas_cumprod)
    z = states()
    for t in (0, 7, 18):
        for ours, theirs in zip(flow.step(z, t), ddpm.step(z, t), strict=True):
            torch.testing.assert_close(ours, theirs.double(), atol=3e-6, rtol=0)
    found = [denoise(prior, z, 15, ImageNoise.of(IDS, 0)) for prior in (flow, ddpm)]
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)
    method, up = MaskDiME(steps=20, tau=9, scale=4, share=0.5), torch.ones(2, dtype=torch.long)
    explained = [maskdime(prior, Linear(), z.float(), up, method, ImageNoise.of(IDS, 0)).x_cf for prior in (flow, ddpm)]
    torch.testing.assert_close(*explained, atol=1e-5, rtol=0)


def test_no_gradient_is_taken_of_a_flows_network() -> None:
    flow, _ = both()
    z = states().requires_grad_()
    signal, sigma = flow.amounts(7)
    (gradient,) = torch.autograd.grad(flow.step(z, 7).x0.sum(), z)
    torch.testing.assert_close(gradient, torch.full_like(z, 1 / (signal + sigma)))


def test_few_steps_stand_where_diffusers_puts_them() -> None:
    theirs = DDIMScheduler(timestep_spacing="trailing")
    theirs.set_timesteps(4)
    ours = DDPM(Says(0.0), Schedule(timestep_spacing="trailing"), channels=3, steps=4)
    assert list(ours.timesteps) == theirs.timesteps.flip(0).tolist()
    consistency = LCMScheduler()
    consistency.set_timesteps(4)
    assert set(consistency.timesteps.tolist()) - {999, 759, 499, 259} == set()  # ours are at most 10 of 1000 steps from these


def test_steps_that_are_not_there_are_refused() -> None:
    with pytest.raises(UserError, match="to 1001 steps; choose between 1 and 1000"):
        Flow().respaced(1001)
    with pytest.raises(UserError, match="to 1001; choose between 1 and 1000"):
        Schedule(timestep_spacing="trailing").respaced(1001)


def test_a_schedulers_file_is_read_or_refused(tmp_path: Path) -> None:
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(tmp_path)
    DDIMScheduler().save_pretrained(tmp_path / "ddim")
    FlowMatchEulerDiscreteScheduler(invert_sigmas=True).save_pretrained(tmp_path / "inverted")
    assert read_flow(tmp_path / "scheduler_config.json") == Flow(shift=3.0)
    assert read_flow(tmp_path / "ddim" / "scheduler_config.json") is None
    with pytest.raises(UserError, match="invert_sigmas is True, which is not honoured"):
        read_flow(tmp_path / "inverted" / "scheduler_config.json")
