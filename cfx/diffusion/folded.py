"""The bundled text-to-image model's stand-in for an autoencoder: pixels folded into channels, exactly, there and back.

A diffusers model of its own, so that `StableDiffusionPipeline.from_pretrained` reads a folder with it as any other: its
model_index.json says `"vae": ["cfx.diffusion.folded", "Folded"]`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


class Known(NamedTuple):
    """A latent without any spread, (B, 3 patch^2, H / patch, W / patch)."""

    mean: Tensor
    std: Tensor


class Folded(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """patch x patch pixels of an image (B, 3, H, W) into one position. Has the names of AutoencoderKL that diffusers reads."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        patch: int = 4,
        latent_channels: int = 48,
        block_out_channels: tuple[int, ...] = (3, 12, 48),  # its length says how much smaller a latent is
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))  # says where the model is, and in which type

    def encode(self, x: Tensor) -> SimpleNamespace:
        """x (B, 3, H, W) to a latent (B, 3 patch^2, H / patch, W / patch), known exactly, as `.latent_dist`."""
        mean = pixel_unshuffle(x, self.config.patch)
        return SimpleNamespace(latent_dist=Known(mean, torch.zeros_like(mean)))

    def decode(self, z: Tensor) -> SimpleNamespace:
        """The inverse of `encode`, as `.sample`."""
        return SimpleNamespace(sample=pixel_shuffle(z, self.config.patch))
