"""Flow matching: the loss at a velocity that is known, the beginning from a prior, what is written."""

import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UNet2DModel
from torch import Tensor, nn

from cfx.diffusion import flow_training
from cfx.diffusion.ddpm import Schedule, load_ddpm, save_ddpm
from cfx.diffusion.flow_training import (
    SHIFT,
    FlowTraining,
    begun_from,
    flow_loss,
    let_noise_through,
    noise_shares,
    step_of_share,
    train_flow,
)
from cfx.diffusion.schedule import betas
from cfx.diffusion.training import PriorTraining, build_unet
from cfx.portraits import draw, render
from cfx.reconstruction import reconstruction

TINY = FlowTraining(steps=6, batch=4, checkpoint_every=3)
MEAN, VARIANCE = 0.3, 0.25


class GaussianVelocity(nn.Module):
    """E[eps - x0 | x_s] of images N(MEAN, VARIANCE): linear in x_s, by regression on it; `gain` times its slope."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x_s: Tensor, told: Tensor) -> Tensor:
        s = (told / 1000).view(-1, 1, 1, 1)
        slope = (s - (1 - s) * VARIANCE) / ((1 - s).square() * VARIANCE + s.square())
        return -MEAN + self.gain * slope * (x_s - (1 - s) * MEAN)


@pytest.mark.parametrize("s", [0.1, 0.4, 0.9])
def test_a_gaussians_velocity_leaves_what_cannot_be_known(s: float) -> None:
    chance = torch.Generator().manual_seed(0)
    x0 = MEAN + math.sqrt(VARIANCE) * torch.randn(64, 3, 16, 16, generator=chance)
    eps, share = torch.randn(x0.shape, generator=chance), torch.full((64,), s)
    known = (s - (1 - s) * VARIANCE) ** 2 / ((1 - s) ** 2 * VARIANCE + s**2)  # of Var(eps - x0) = 1 + VARIANCE
    loss = float(flow_loss(GaussianVelocity(), x0, share, eps))
    assert loss == pytest.approx(1 + VARIANCE - known, rel=0.02)
    for gain in (0.8, 1.2):
        more = float(flow_loss(GaussianVelocity(gain), x0, share, eps)) - loss
        assert more == pytest.approx(0.04 * known, rel=0.3, abs=2e-3)


def test_a_prior_is_told_its_own_step_with_as_much_noise() -> None:
    level = (1 - betas("linear", 1000)).cumprod(0)
    s = torch.linspace(0, 1, 101, dtype=torch.float64)
    step = step_of_share(s, level)
    assert step[0] == 0 and step[-1] == 999 and bool((step.diff() >= 0).all())
    for share, at in zip(s[10:98], step[10:98], strict=True):  # (1 - s) / s is the ratio of signal to noise of both
        ratio = torch.sqrt(level[round(float(at))] / (1 - level[round(float(at))]))
        assert float(ratio) == pytest.approx(float((1 - share) / share), rel=0.03)


def test_noise_is_practised_in_the_middle() -> None:
    s = noise_shares(20_000, torch.Generator().manual_seed(0))
    assert float(s.min()) > 0 and float(s.max()) < 1 and float(s.median()) == pytest.approx(0.5, abs=0.01)
    assert float((s < 1 / (1 + math.e)).float().mean()) == pytest.approx(0.1587, abs=0.01)  # a standard normal below -1


def batches(step: int) -> Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(step)) * 2 - 1


@pytest.fixture
def prior(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_ddpm(
        tmp_path / "prior", build_unet(PriorTraining(size=16, patch=2, channels=(32, 32))), Schedule(prediction_type="sample")
    )
    return tmp_path / "prior"


class Killed(RuntimeError):
    pass


def test_a_flow_is_written_and_a_killed_training_goes_on(prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_training, "TIME_STEPS", 3)
    monkeypatch.setattr(flow_training, "FITTED", 1)
    train_flow(batches, prior, TINY, tmp_path / "whole")

    def kill(step: int, loss: float) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        train_flow(batches, prior, TINY, tmp_path / "killed", kill)
    with pytest.raises(ValueError, match="another configuration"):
        train_flow(batches, prior, TINY.model_copy(update={"seed": 1}), tmp_path / "killed")
    train_flow(batches, prior, TINY, tmp_path / "killed")
    whole, resumed = (UNet2DModel.from_pretrained(tmp_path / name / "unet") for name in ("whole", "killed"))
    for (name, weight), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(weight, other, msg=name)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path / "whole" / "scheduler")
    assert scheduler.config["num_train_timesteps"] == 1000 and scheduler.config["shift"] == SHIFT
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()


def test_the_time_embedding_begins_where_the_priors_was(prior: Path) -> None:
    old: Any = load_ddpm(prior)
    torch.manual_seed(0)
    new, patch = begun_from(prior)
    s = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    with torch.no_grad():
        said = old.network.time_embedding(old.network.time_proj(step_of_share(s, old.alphas_cumprod)))
        now = new.time_embedding(new.time_proj(1000 * s.float()))
        unfitted = old.network.time_embedding(old.network.time_proj(1000 * s.float()))
    assert patch == 2
    assert float((now - said).square().mean()) < 0.2 * float((unfitted - said).square().mean())


def test_noise_comes_through_before_the_first_step(prior: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_training, "TIME_STEPS", 1)
    network, _ = begun_from(prior)
    chance = torch.Generator().manual_seed(0)
    drawn = [
        (0.1 * torch.randn(8, 12, 8, 8, generator=chance), noise_shares(8, chance), torch.randn(8, 12, 8, 8, generator=chance))
        for _ in range(3)
    ]
    before = flow_loss(network, *drawn[0]).item()
    let_noise_through(network, drawn[1:])
    assert before > 0.9 and flow_loss(network, *drawn[0]).item() < 0.75


def test_a_prior_with_variances_is_refused(tmp_path: Path) -> None:
    shape = {"sample_size": 16, "block_out_channels": (32, 32), "layers_per_block": 1}
    down, up = ("DownBlock2D", "DownBlock2D"), ("UpBlock2D", "UpBlock2D")
    unet = UNet2DModel(in_channels=3, out_channels=6, down_block_types=down, up_block_types=up, **shape)
    save_ddpm(tmp_path / "prior", unet, Schedule(variance_type="learned_range"))
    with pytest.raises(ValueError, match="predicts variances"):
        train_flow(batches, tmp_path / "prior", TINY, tmp_path / "flow")


def test_the_bundled_flow_knows_portraits() -> None:
    folder = Path(str(files("cfx"))) / "weights/portraits"
    UNet2DModel.from_pretrained(folder / "flow/unet", low_cpu_mem_usage=False)
    flow = load_ddpm(folder / "flow").respaced(25)
    pixels = np.stack([render(portrait) for _, portrait in draw(4, seed=99)])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert reconstruction(flow, x, 12) < 0.8  # .85 is where the training of a prior calls it enough
    size = sum(file.stat().st_size for name in ("flow", "text") for file in (folder / name).rglob("*") if file.is_file())
    assert size <= 25_000_000  # both generators that come with cfx
