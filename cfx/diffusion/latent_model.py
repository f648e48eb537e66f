"""What a generator's folder holds, ready to denoise: a conditioned network, its noise, its autoencoder, its text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pydantic import Field, model_validator
from torch import Tensor, nn

from cfx.diffusion.ddpm import Schedule
from cfx.errors import UserError
from cfx.paths import ModelName
from cfx.types import Config

if TYPE_CHECKING:
    from cfx.diffusion.flow import Flow


class Conditioning(Config):
    """What the generator is asked to draw, the same for every image."""

    prompt: str = Field("", description="of a model that reads prompts; empty: any image")
    negative_prompt: str = Field("", description="what guidance leads away from; empty: any image")
    label: str | int | None = Field(None, description="of a model of classes: a class's name or id; left out: no class")
    guidance: float = Field(1.0, ge=0, description="scale of classifier-free guidance; 1: none, and half the work")

    @model_validator(mode="after")
    def _away_from(self) -> Conditioning:
        if self.negative_prompt and self.guidance == 1:
            raise UserError(
                f"negative_prompt is {self.negative_prompt!r}, but without guidance it has no effect; set `guidance` above 1"
            )
        return self


class Parts(Config):
    """What is put on or in the place of parts of a pipeline: local folders, or a file."""

    lora: tuple[ModelName, float] | None = Field(
        None, description="low-rank weights (a .safetensors file or its folder), and their scale"
    )
    network: ModelName | None = Field(
        None, description="folder of a fine-tuned UNet or transformer, instead of the pipeline's own"
    )
    decoder: ModelName | None = Field(
        None,
        description="a tiny autoencoder (AutoencoderTiny: TAESD and the like) for what guides; the result is decoded in full",
    )


class Autoencoder(Protocol):
    """Images to latents and back, both differentiable."""

    channels: int  # of a latent
    factor: int  # pixels a latent's side

    def encode(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] to the mean of its latent (B, C, H / factor, W / factor), scaled (and shifted)."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """The image (B, 3, h factor, w factor) of a scaled latent z (B, C, h, w); not clamped."""
        ...

    def sketch(self, z: Tensor) -> Tensor:
        """The same, or nearly and at less cost: what guides is shown this."""
        ...


class TextEncoder(Protocol):
    """Prompts into what the network reads, for edits by word."""

    keeps: bool  # the encoders in memory between prompts

    def conditioned(self, prompts: Sequence[str], negatives: Sequence[str] = ("",), guidance: float = 1.0) -> nn.Module:
        """The model's network under a prompt each image: answer (B, C, h, w) = network(z (B, C, h, w), timesteps (B,)).

        prompts: one for each of B images, or one for all; negatives: likewise, what guidance leads away from. Its weights are
        shared with `LatentModel.network`. Raises UserError for a prompt that is too long.
        """
        ...


@dataclass(frozen=True)
class LatentModel:
    """A frozen generator with what it is asked to draw.

    network(z (B, C, h, w), timesteps (B,)) -> (B, C, h, w), float32 outside: prompt or class and guidance are in it already.
    timesteps are those of the training schedule; of a flow they are s N, where s in [0, 1] is the share of noise and N its
    num_train_timesteps. What is predicted is said by `schedule`: noise, clean latent or velocity; of a flow eps - x0.
    """

    network: nn.Module
    schedule: Schedule | Flow
    autoencoder: Autoencoder
    side: int | None  # of the images it draws, pixels; None where it does not say
    text: TextEncoder | None  # None of a model that reads no prompts
