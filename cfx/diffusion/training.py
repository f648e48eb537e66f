"""Training a prior: velocity-weighted denoising, an exponential moving average, checkpoints that a killed run resumes from."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cfx.checkpoint import fit, read_state_dict
from cfx.diffusion.ddpm import DDPM, Schedule, missing, save_ddpm
from cfx.diffusion.schedule import Prediction
from cfx.random import derived_seed
from cfx.reconstruction import reconstruction
from cfx.training.loop import cosine, seeded, set_rate
from cfx.training.resume import Checkpoint
from cfx.types import Config

FIRST = 300  # optimizer steps of the first cosine; it ends after 1, 3, 7 … times as many
SMALL = 32  # pixels of the longer side up to which a small UNet draws
TRIED, STEPS, TAU = 16, 50, 18  # images that a prior is tried on, and how deep it noises them
Batches = Callable[[int], Tensor]  # step -> (B, 3, H, W) in [-1, 1]; the same step always gives the same batch


class PriorTraining(Config):
    """Knobs of `cfx train prior`; the defaults train a 64 px prior in an hour or two of one CPU core."""

    size: int = Field(
        64, ge=8, description="side of the square images, pixels; in an audit the longer side, if the images are not smaller"
    )
    patch: int = Field(4, ge=1, description="pixels folded into one position at the UNet's door; 1 for none")
    channels: tuple[int, ...] = Field((64, 128, 128), min_length=1, description="width of each level; attention on the last")
    layers: int = Field(1, ge=1, description="residual blocks a level")
    prediction: Prediction = Field("sample", description="what the UNet predicts; of folded images the clean one is learned best")
    steps: int = Field(8_000, ge=1, description="optimizer steps, at most")
    enough: float | None = Field(
        0.85,
        gt=0,
        description="stop when noising to tau 18 of 50 and denoising changes some of the images by this share of what a plain "
        "blur would; looked at after 300 steps, 900, 2,100 …; null: all steps in one cosine",
    )
    batch: int = Field(32, ge=1, description="images an optimizer step")
    accumulate: int = Field(1, ge=1, description="parts that a step's images go through the UNet in: less memory, same step")
    learning_rate: float = Field(8e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    ema: float = Field(0.998, ge=0, lt=1, description="decay of the moving average that is kept")
    low_noise: float = Field(1.5, ge=1, description="timesteps are drawn as N u^low_noise: above 1, low noise is practised more")
    max_weight: float = Field(20.0, gt=1, description="cap on the weight SNR + 1 of a clean estimate's error")
    bf16: bool = Field(False, description="bfloat16 autocast of the UNet; weights and loss stay float32")
    compile: bool = Field(False, description="torch.compile the UNet: minutes first, then up to twice as fast")
    start: Path | None = Field(
        None, description="a trained prior's folder to go on from, its UNet of this shape; default: from nothing"
    )
    checkpoint_every: int = Field(250, ge=1, description="optimizer steps between checkpoints")
    seed: int = 0

    @model_validator(mode="after")
    def _can_be_padded(self) -> PriorTraining:
        missing(self.size, self.multiple)
        return self

    @property
    def multiple(self) -> int:
        """Sides that the UNet takes without padding are multiples of this, pixels."""
        return int(self.patch * 2 ** (len(self.channels) - 1))

    def drawn_size(self, height: int, width: int) -> tuple[int, int] | None:
        """The size, pixels, at which a prior of an audit draws images of this shape; None where it is their own."""
        longer = max(height, width)
        share = min(self.size, longer) / longer
        return None if share == 1 else (max(1, round(height * share)), max(1, round(width * share)))


def suited_to(height: int, width: int) -> PriorTraining:
    """A training for images of this shape that ends within minutes on a CPU: what `prior: auto` means.

    Small images get a small UNet, larger ones are drawn at 64 px; either is looked at after 300 steps, and goes on where that is
    not enough.
    """
    longer = max(height, width)
    if longer <= SMALL:
        return PriorTraining(size=longer, patch=2, channels=(32, 64), steps=3 * FIRST)
    return PriorTraining(size=min(64, longer), steps=7 * FIRST)


def build_unet(config: PriorTraining) -> UNet2DModel:
    """An untrained diffusers UNet2DModel of this shape."""
    levels = len(config.channels)
    return UNet2DModel(
        sample_size=-(-config.size // config.patch),  # rounded up: the edge is padded
        in_channels=3 * config.patch**2,
        out_channels=3 * config.patch**2,
        block_out_channels=config.channels,
        layers_per_block=config.layers,
        down_block_types=("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
        norm_num_groups=math.gcd(32, *config.channels),
        attention_head_dim=min(32, config.channels[-1]),
        resnet_time_scale_shift="scale_shift",
    )


def denoising_loss(ddpm: DDPM, x: Tensor, timesteps: Tensor, noise: Tensor, max_weight: float) -> Tensor:
    """Squared error of what the UNet predicts, averaged over pixels and images.

    x, noise: (B, 3, H, W); timesteps: (B,) original steps. A clean estimate's error is weighted by SNR + 1, which makes it that
    of the velocity (Salimans & Ho 2022), up to `max_weight` (Hang et al. 2023): else nearly clean images would drown all others.
    """
    level = ddpm.alphas_cumprod.to(x)[timesteps].view(-1, 1, 1, 1)
    z = level.sqrt() * x + (1 - level).sqrt() * noise
    out = ddpm.predict(z, timesteps).float()
    if ddpm.schedule.prediction_type == "v_prediction":
        return (level.sqrt() * noise - (1 - level).sqrt() * x - out).square().mean()
    if ddpm.schedule.prediction_type == "epsilon":
        return (noise - out).square().mean()
    return ((x - out).square() * (1 / (1 - level)).clamp(max=max_weight)).mean()


def period(step: int, config: PriorTraining) -> tuple[int, int]:
    """The cosine of the learning rate that a step lies in: its first step and its length, cut off where the training ends."""
    began, length = 0, FIRST if config.enough is not None else config.steps
    while step >= began + length:
        began, length = began + length, 2 * length
    return began, min(length, config.steps - began)


def _average(config: PriorTraining) -> Callable[[Any, Any, Any], None]:
    """The moving average. Where a training may end soon it forgets faster at first: a step n counts (1 + n) / (10 + n)."""
    if config.enough is None:
        return get_ema_multi_avg_fn(config.ema)

    def average(averaged: Any, current: Any, count: Any) -> None:
        get_ema_multi_avg_fn(min(config.ema, (1 + int(count)) / (10 + int(count))))(averaged, current, count)

    return average


def train_prior(
    batches: Batches,
    config: PriorTraining,
    folder: Path,
    report: Callable[[int, float], None] = lambda step, loss: None,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Train a prior into `folder` and return it; called again after a kill, it goes on from the last checkpoint.

    The learning rate falls in cosines with warm restarts (Loshchilov & Hutter 2017), each twice as long as the one before; at the
    end of each the moving average is tried, and the training ends where it is good `enough`. `report(step, loss)` is called after
    every optimizer step; `tell` hears how good the prior is. Raises UserError if `folder` holds a checkpoint of another
    configuration, or if the UNet of `config.start` has another shape.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with seeded(config.seed):
        unet = build_unet(config)
    if config.start is not None:
        weights = config.start / "unet" / "diffusion_pytorch_model.safetensors"
        fit(unet, read_state_dict(weights), weights, "a UNet of `size`, `patch`, `channels` and `layers`")
    unet.to(device, memory_format=torch.channels_last)
    average = AveragedModel(unet, multi_avg_fn=_average(config))
    optimizer = torch.optim.AdamW(unet.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    schedule = Schedule(prediction_type=config.prediction)
    if config.compile:
        unet.compile()
    ddpm = DDPM(unet, schedule, channels=3 * config.patch**2)
    tried = batches(0)[:TRIED].to(device)
    checkpoint = Checkpoint(folder / "checkpoint.pt", config)
    first = checkpoint.restore(device, unet=unet, average=average, optimizer=optimizer)
    for step in range(first, config.steps):
        began, length = period(step, config)
        set_rate(optimizer, config.learning_rate * cosine(step - began, length, min(200, max(1, length // 20))))
        noise_source = torch.Generator().manual_seed(derived_seed("prior", config.seed, step))
        x = batches(step)
        share = torch.rand(len(x), generator=noise_source) ** config.low_noise
        timesteps = (share * len(ddpm.betas)).long()
        noise = torch.randn(x.shape, generator=noise_source)
        optimizer.zero_grad(set_to_none=True)
        mean_loss = 0.0
        for part in torch.arange(len(x)).chunk(config.accumulate):
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=config.bf16):
                seen = (x[part].to(device), timesteps[part].to(device), noise[part].to(device))
                loss = denoising_loss(ddpm, *seen, config.max_weight) * (len(part) / len(x))
            loss.backward()
            mean_loss += loss.item()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(unet)
        report(step + 1, mean_loss)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            checkpoint.keep(step + 1, unet=unet, average=average, optimizer=optimizer)
        if step + 1 == began + length and config.enough is not None:
            left = reconstruction(DDPM(average.module, schedule, ddpm.channels, STEPS), tried, TAU)
            tell(f"after {step + 1} steps noising and denoising changes images by {left:.2f} of what a plain blur would")
            if left <= config.enough:
                break
    final = average.module
    assert isinstance(final, UNet2DModel)
    save_ddpm(folder, final.half(), schedule)
    checkpoint.path.unlink(missing_ok=True)
    return folder
