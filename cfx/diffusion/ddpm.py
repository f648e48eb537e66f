"""A trained UNet as a `Denoiser`: noise, clean-image or velocity prediction, fixed or learned variance, any respacing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from cfx.diffusion.schedule import BetaSchedule, betas, respaced_betas, respaced_timesteps
from cfx.types import Config, Step

Prediction = Literal["epsilon", "sample", "v_prediction"]  # diffusers' names


class Schedule(Config):
    """What scheduler/scheduler_config.json says: how the UNet was trained. Field names are those of diffusers."""

    num_train_timesteps: int = 1000
    beta_schedule: BetaSchedule = "linear"
    prediction_type: Prediction = "epsilon"
    trained_timesteps: int | None = None  # the first so many only; None: all of them


class DDPM:
    """A UNet with its noise schedule, respaced to `steps`   (Ho et al. 2020; Nichol & Dhariwal 2021, learned range).

    The UNet maps (B, C, H, W) and (B,) original timesteps to C channels (fixed variance) or 2C (learned range). A UNet with 3 p^2
    input channels sees images folded, p x p pixels into one position. `clip` clamps the clean estimate to [-1, 1] before
    the mean is computed. Use `network` and `alphas_cumprod` freely; both are read only.
    """

    def __init__(
        self, network: nn.Module, schedule: Schedule, channels: int, steps: int | None = None, clip: bool = True
    ) -> None:
        self.network, self.schedule, self.channels, self.clip = network, schedule, channels, clip
        self.patch = math.isqrt(channels // 3) if channels > 3 else 1
        original = betas(schedule.beta_schedule, schedule.num_train_timesteps)
        self.timesteps = respaced_timesteps(len(original), steps or len(original))
        self.betas = respaced_betas(original, self.timesteps)
        self.alphas_cumprod = (1 - self.betas).cumprod(0)
        before = torch.cat([torch.ones(1, dtype=torch.float64), self.alphas_cumprod[:-1]])
        # q(z_{t-1} | z_t, x0): mean = c1 x0 + c2 z, variance beta~   (Ho et al. 2020, eq. 7)
        self.c1 = self.betas * before.sqrt() / (1 - self.alphas_cumprod)
        self.c2 = (1 - before) * (1 - self.betas).sqrt() / (1 - self.alphas_cumprod)
        posterior = self.betas * (1 - before) / (1 - self.alphas_cumprod)
        self.log_posterior = torch.cat([posterior[1:2] if len(posterior) > 1 else self.betas[:1], posterior[1:]]).log()

    def respaced(self, steps: int) -> DDPM:
        """The same network over `steps` of its original steps."""
        return DDPM(self.network, self.schedule, self.channels, steps, self.clip)

    def predict(self, z: Tensor, timesteps: Tensor) -> Tensor:
        """The network's raw answer at original timesteps (B,), unfolded to pixels: (B, C or 2C, H, W)."""
        folded = pixel_unshuffle(z, self.patch) if self.patch > 1 else z
        out = self.network(folded, timesteps)
        out = out if isinstance(out, Tensor) else out.sample
        return pixel_shuffle(out, self.patch) if self.patch > 1 else out

    def step(self, z: Tensor, t: int) -> Step:
        """One reverse step of z (B, 3, H, W) at respaced index t: mean and deviation of z_{t-1}, clean estimate, noise."""
        timesteps = torch.full((len(z),), self.timesteps[t], device=z.device)
        out = self.predict(z, timesteps).float()
        out, variance = (out, None) if out.shape[1] == z.shape[1] else out.chunk(2, dim=1)
        signal, sigma = math.sqrt(self.alphas_cumprod[t]), math.sqrt(1 - self.alphas_cumprod[t])
        if self.schedule.prediction_type == "epsilon":
            x0 = (z - sigma * out) / signal
        elif self.schedule.prediction_type == "sample":
            x0 = out
        else:
            x0 = signal * z - sigma * out
        eps = (z - signal * x0) / sigma
        if self.clip:
            x0 = x0.clamp(-1, 1)
        mean = float(self.c1[t]) * x0 + float(self.c2[t]) * z
        low, high = float(self.log_posterior[t]), float(self.betas[t].log())
        if variance is None:
            std = torch.full_like(z, math.exp(low / 2))
        else:
            share = (variance + 1) / 2  # not clamped, as in guided-diffusion
            std = ((share * high + (1 - share) * low) / 2).exp()
        return Step(mean, std, x0, eps)


def load_ddpm(folder: Path, steps: int | None = None, clip: bool = True) -> DDPM:
    """A denoiser from a diffusers-format folder: unet/ (UNet2DModel) and scheduler/scheduler_config.json.

    Raises FileNotFoundError, naming what is missing and how to make it, if the folder is not such a checkpoint.
    """
    unet_config, scheduler_config = folder / "unet" / "config.json", folder / "scheduler" / "scheduler_config.json"
    for needed in (unet_config, scheduler_config):
        if not needed.is_file():
            raise FileNotFoundError(f"no prior at {folder}: {needed.name} is missing; train one with `cfx train prior`")
    network = (
        UNet2DModel.from_pretrained(folder / "unet", torch_dtype=torch.float32, low_cpu_mem_usage=False)
        .eval()
        .requires_grad_(False)
    )
    settings = json.loads(scheduler_config.read_text())
    if (heads := network.config.get("_num_heads")) is not None:
        set_heads(network, heads)
    schedule = Schedule(**{name: settings[name] for name in Schedule.model_fields if name in settings})
    return DDPM(network.to(memory_format=torch.channels_last), schedule, network.config["in_channels"], steps, clip)


def set_heads(network: UNet2DModel, heads: int) -> None:
    """Give every attention this many heads. diffusers knows channels a head only, the same at every width."""
    for module in network.modules():
        if isinstance(module, Attention):
            module.heads = heads
            module.scale = (module.inner_dim / heads) ** -0.5


def save_ddpm(folder: Path, network: UNet2DModel, schedule: Schedule) -> None:
    """Write a diffusers-format folder; DDPMPipeline.from_pretrained understands it when the UNet sees plain pixels."""
    network.save_pretrained(folder / "unet")
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    settings = {"_class_name": "DDPMScheduler", **schedule.model_dump(exclude_none=True)}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings, indent=2) + "\n")
