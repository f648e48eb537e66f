"""A trained network as a `Denoiser`: noise, clean-image or velocity prediction, or a flow; fixed or learned variance; any
respacing."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from pydantic import Field, ValidationError
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from cfx.diffusion.flow import Flow
from cfx.diffusion.flow_scheduler import read_flow
from cfx.diffusion.pretrained import prior_files, read_schedule, read_unet
from cfx.diffusion.schedule import (
    BetaSchedule,
    Prediction,
    betas,
    ends,
    respaced_betas,
    respaced_timesteps,
    trailing_timesteps,
    without_signal_at_the_end,
)
from cfx.errors import UserError
from cfx.types import Config, Step

if TYPE_CHECKING:
    from cfx.diffusion.latent_model import Autoencoder


class Schedule(Config):
    """How the UNet was trained: what scheduler/scheduler_config.json says. Field names are those of diffusers.

    Without beta_start and beta_end, `betas` says which. Raises UserError, as `original_betas`, for betas that are no noise.
    """

    num_train_timesteps: int = Field(1000, ge=1)
    beta_schedule: BetaSchedule = "linear"
    beta_start: float | None = None
    beta_end: float | None = None
    trained_betas: tuple[float, ...] | None = None  # instead of beta_schedule
    rescale_betas_zero_snr: bool = False
    prediction_type: Prediction = "epsilon"
    variance_type: Literal["fixed_small", "fixed_small_log", "fixed_large", "learned_range"] | None = None  # None: by channels
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    thresholding: bool = False  # instead of clip_sample: dynamic, by each image's own range
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    trained_timesteps: int | None = None  # the first so many only; None: all of them
    distilled_steps: int | None = Field(None, ge=2)  # respaced to these only (`cfx.diffusion.distillation`); None: to any
    timestep_spacing: Literal["trailing"] | None = None  # which steps are kept: of a model of few steps, those it was made for

    skips_gradient: ClassVar[bool] = False

    def original_betas(self) -> Tensor:
        """The N betas, (N,) float64."""
        if self.trained_betas is not None:
            found = torch.tensor(self.trained_betas, dtype=torch.float64)
        else:
            found = betas(self.beta_schedule, self.num_train_timesteps, self.beta_start, self.beta_end)
        if self.rescale_betas_zero_snr:
            found = without_signal_at_the_end(found)
        if not ((found > 0) & (found <= 1)).all():
            raise UserError(
                f"betas go from {float(found.min()):g} to {float(found.max()):g}, but each is a share of noise in (0, 1]"
            )
        return found

    def respaced(self, steps: int | None = None, summed: bool = False) -> tuple[list[int], Tensor]:
        """The `steps` original steps that are kept, rising, and the betas over them, (K,) float64; default: all.

        `summed` as in `respaced_timesteps`. Raises UserError for more steps than there are, and for others than those that a
        distilled prior was made for: between them its answers are no clean estimates.
        """
        original, made_for = self.original_betas(), self.distilled_steps
        if made_for is not None and steps not in (None, made_for):
            raise UserError(
                f"the prior was distilled to {made_for} steps, and its answers mean nothing in {steps}; set `steps: {made_for}`, "
                "with a tau of so few steps, or use the prior that it was distilled from"
            )
        if self.timestep_spacing == "trailing":
            timesteps = trailing_timesteps(len(original), steps or len(original))
        else:
            timesteps = respaced_timesteps(len(original), steps or len(original), summed)
        return timesteps, respaced_betas(original, timesteps)

    def state(self, z: Tensor, signal: float, sigma: float) -> Tensor:
        """What the network is shown for z = signal x0 + sigma eps: z itself."""
        return z

    def clean(self, out: Tensor, z: Tensor, signal: float, sigma: float) -> Tensor:
        """The clean estimate that follows from the network's answer."""
        if self.prediction_type == "epsilon":
            return (z - sigma * out) / signal
        return out if self.prediction_type == "sample" else signal * z - sigma * out

    def noise(self, out: Tensor, z: Tensor, signal: float, sigma: float) -> Tensor:
        """The noise that follows from the network's answer."""
        if self.prediction_type == "sample":
            return (z - signal * out) / sigma
        return out if self.prediction_type == "epsilon" else signal * out + sigma * z


class DDPM:
    """A UNet with its noise schedule, respaced to `steps`   (Ho et al. 2020; Nichol & Dhariwal 2021, learned range).

    The UNet maps (B, C, H, W) and (B,) original timesteps to C channels (fixed variance) or 2C (learned range). A UNet with 3 p^2
    input channels sees images folded, p x p pixels into one position; `patch` says p where the channels do not. `clip` clamps the
    clean estimate before the mean is computed, as the schedule says. Use `network` and `alphas_cumprod` freely; both are read
    only. Raises UserError for steps that a distilled UNet was not made for.

    A flow's state is that of a diffusion model by change of variables (`cfx.diffusion.flow`). No gradient is taken through its
    network: the clean estimate is differentiated as if the velocity were constant   (FlowChef, Patel et al. 2024,
    arXiv:2412.00100).
    """

    autoencoder: Autoencoder | None = None  # of a prior over latents

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule | Flow,
        channels: int,
        steps: int | None = None,
        clip: bool = True,
        summed: bool = False,
        patch: int | None = None,
    ) -> None:
        self.network, self.schedule, self.channels, self.clip = network, schedule, channels, clip
        self.patch = patch or (math.isqrt(channels // 3) if channels > 3 else 1)
        self.multiple = self.patch * 2 ** halvings(network)
        self.timesteps: Sequence[float]
        self.timesteps, self.betas = schedule.respaced(steps, summed)
        self.alphas_cumprod = (1 - self.betas).cumprod(0)
        before = torch.cat([torch.ones(1, dtype=torch.float64), self.alphas_cumprod[:-1]])
        # q(z_{t-1} | z_t, x0): mean = c1 x0 + c2 z, variance beta~   (Ho et al. 2020, eq. 7)
        self.c1 = self.betas * before.sqrt() / (1 - self.alphas_cumprod)
        self.c2 = (1 - before) * (1 - self.betas).sqrt() / (1 - self.alphas_cumprod)
        posterior = self.betas * (1 - before) / (1 - self.alphas_cumprod)
        self.log_posterior = torch.cat([posterior[1:2] if len(posterior) > 1 else self.betas[:1], posterior[1:]]).log()

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width, pixels, of the images that the UNet was trained on; None where it does not say."""
        said = getattr(self.network, "config", {}).get("sample_size")
        height, width = said if isinstance(said, list | tuple) else (said, said)
        return None if height is None else (height * self.patch, width * self.patch)

    def drawn_size(self, height: int, width: int) -> tuple[int, int] | None:
        """The size, pixels, at which the UNet draws images of this shape; None where it is their own, or the UNet does not say.

        The longer side as long as the UNet's own, the other in proportion.
        """
        if self.size is None or self.size == (height + missing(height, self.patch), width + missing(width, self.patch)):
            return None
        share = max(self.size) / max(height, width)
        drawn = max(1, round(height * share)), max(1, round(width * share))
        return None if drawn == (height, width) else drawn

    def respaced(self, steps: int, summed: bool = False) -> DDPM:
        """The same network over `steps` of its original steps; `summed` as in `respaced_timesteps`."""
        return DDPM(self.network, self.schedule, self.channels, steps, self.clip, summed, self.patch)

    @property
    def skips_gradient(self) -> bool:
        """Whether the clean estimate is differentiated as if the network's answer were constant."""
        return self.schedule.skips_gradient

    def amounts(self, t: int) -> tuple[float, float]:
        """How much of the image and how much noise is in z at respaced index t: sqrt(abar), sqrt(1 - abar)."""
        return math.sqrt(self.alphas_cumprod[t]), math.sqrt(1 - self.alphas_cumprod[t])

    def predict(self, z: Tensor, timesteps: Tensor) -> Tensor:
        """The network's raw answer at original timesteps (B,), unfolded to pixels: (B, C or 2C, H, W).

        Where H or W is not a multiple of what the UNet halves, it sees the image with its lower and right edges mirrored.
        Raises UserError for an image that is too small for that.
        """
        padded = mirrored(z, self.multiple)
        folded = pixel_unshuffle(padded, self.patch) if self.patch > 1 else padded
        out = self.network(folded, timesteps)
        out = out if isinstance(out, Tensor) else out.sample
        out = pixel_shuffle(out, self.patch) if self.patch > 1 else out
        return out if padded is z else out[..., : z.shape[2], : z.shape[3]]

    def step(self, z: Tensor, t: int) -> Step:
        """One reverse step of z (B, 3, H, W) at respaced index t: mean and deviation of z_{t-1}, clean estimate, noise."""
        return self.step_of(self.answer(z, t), z, t)

    def answer(self, z: Tensor, t: int) -> Tensor:
        """What the network says of z (B, 3, H, W) at respaced index t, (B, C or 2C, H, W) float32."""
        timesteps = torch.full((len(z),), self.timesteps[t], device=z.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.skips_gradient):
            return self.predict(self.schedule.state(z, *self.amounts(t)), timesteps).float()

    def step_of(self, out: Tensor, z: Tensor, t: int) -> Step:
        """The reverse step of z (B, 3, H, W) at respaced index t that follows from the network's answer (B, C or 2C, H, W)."""
        out, variance = (out, None) if out.shape[1] == z.shape[1] else out.chunk(2, dim=1)
        signal, sigma = self.amounts(t)
        x0 = self.schedule.clean(out, z, signal, sigma)
        eps = (z - signal * x0) / sigma
        if self.clip:
            x0 = clipped(x0, self.schedule)
        mean = float(self.c1[t]) * x0 + float(self.c2[t]) * z
        low, high = float(self.log_posterior[t]), float(self.betas[t].log())
        if variance is None:
            large = isinstance(self.schedule, Schedule) and self.schedule.variance_type == "fixed_large"
            std = torch.full_like(z, math.exp((high if large else low) / 2))
        else:
            share = (variance + 1) / 2  # not clamped, as in guided-diffusion
            std = ((share * high + (1 - share) * low) / 2).exp()
        return Step(mean, std, x0, eps)


def clipped(x0: Tensor, schedule: Schedule | Flow) -> Tensor:
    """The clean estimate (B, C, H, W) in the range that the schedule says; a flow says none."""
    if isinstance(schedule, Flow):
        return x0
    if schedule.thresholding:  # (Saharia et al. 2022, sec. 2.3)
        bound = x0.flatten(1).abs().quantile(schedule.dynamic_thresholding_ratio, dim=1)
        bound = bound.clamp(1, schedule.sample_max_value).view(-1, 1, 1, 1)
        return x0.clamp(-bound, bound) / bound
    return x0.clamp(-schedule.clip_sample_range, schedule.clip_sample_range) if schedule.clip_sample else x0


def halvings(network: nn.Module) -> int:
    """How often a diffusers UNet halves its input; 0 of any other network."""
    return max(0, len(getattr(network, "config", {}).get("down_block_types", ())) - 1)


def mirrored(x: Tensor, multiple: int) -> Tensor:
    """x (B, C, H, W), its lower and right edges mirrored until H and W are multiples; x itself where they are."""
    for dim in (2, 3):
        side = x.shape[dim]
        if more := missing(side, multiple):
            x = torch.cat([x, x.narrow(dim, side - 1 - more, more).flip(dim)], dim)  # unlike `pad`, the same on every run
    return x


def missing(side: int, multiple: int) -> int:
    """Pixels up to the next multiple. Raises UserError for a side that is too short to be mirrored so far."""
    more = -side % multiple
    if more >= side:
        raise UserError(
            f"a side of {side} px is too short for a prior that takes multiples of {multiple}; raise `size` to more than "
            f"{multiple // 2}, or use a prior with fewer levels or a smaller patch"
        )
    return more


def load_ddpm(folder: Path, steps: int | None = None, clip: bool = True) -> DDPM:
    """A denoiser from a folder in diffusers' format (`cfx.diffusion.pretrained`): a UNet2DModel and its scheduler.

    Raises FileNotFoundError, naming what is missing and how to make it, if the folder is not such a checkpoint; UserError for a
    UNet or a scheduler that cannot be honoured to the letter.
    """
    network = read_unet(prior_files(folder))
    if (heads := network.config.get("_num_heads")) is not None:
        set_heads(network, heads)
    schedule = load_schedule(folder)
    return DDPM(network.to(memory_format=torch.channels_last), schedule, network.config["in_channels"], steps, clip)


def load_schedule(folder: Path) -> Schedule | Flow:
    """How the prior in this folder was trained. Raises as `load_ddpm` does."""
    files = prior_files(folder)
    return read_flow(files.scheduler) or schedule_of(files.scheduler, read_schedule(files))


def schedule_of(source: Path, said: Mapping[str, Any]) -> Schedule:
    """What a scheduler's file says (`schedule_fields`), checked. Raises UserError naming the file and the field."""
    try:
        schedule = Schedule(**said)
        schedule.original_betas()
    except ValidationError as error:
        wrong = "; ".join(f"{found['loc'][0]} is {found['input']!r}: {found['msg']}" for found in error.errors())
        raise UserError(f"{source}: {wrong}") from error
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    return schedule


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
    if schedule.trained_betas is None:  # said, because diffusers' defaults are others
        usual = dict(zip(("beta_start", "beta_end"), ends(schedule.beta_schedule, schedule.num_train_timesteps), strict=True))
        settings = usual | settings
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings, indent=2) + "\n")
