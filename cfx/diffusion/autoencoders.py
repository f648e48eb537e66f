"""Autoencoders of latent models behind one contract: `cfx.diffusion.latent_model.Autoencoder`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from cfx.errors import UserError


class Pixels(nn.Module):
    """No autoencoder: patch x patch pixels of an image folded into the channels of one position, and back."""

    def __init__(self, patch: int = 1) -> None:
        super().__init__()
        self.channels, self.factor = 3 * patch**2, patch

    def encode(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) to (B, 3 patch^2, H / patch, W / patch)."""
        return pixel_unshuffle(x, self.factor)

    def decode(self, z: Tensor) -> Tensor:
        """The inverse of `encode`."""
        return pixel_shuffle(z, self.factor)


class Scaled(nn.Module):
    """diffusers' AutoencoderKL, AutoencoderDC, AutoencoderTiny, VQModel (or one of cfx's own), with its scale and shift.

    A latent is (z - shift) scale, as the pipelines have it; of latents with a mean and deviation a channel (latents_mean,
    latents_std), (z - mean) scale / std.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, decoder: nn.Module | None = None) -> None:
        """decoder: a tiny autoencoder that decodes instead. Raises UserError where it is not of the same latents."""
        super().__init__()
        self.network, self.decoder = network, decoder
        config: Any = network.config
        self.channels, self.factor = int(config.latent_channels), factor_of(config)
        if decoder is not None:
            _check_decoder(self, decoder)
        mean, std = config.get("latents_mean"), config.get("latents_std")
        scale, shift = config.get("scaling_factor", 1.0), config.get("shift_factor") or 0.0
        if mean is not None and std is not None:
            self.register_buffer("shift", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
            self.register_buffer("scale", scale / torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        else:
            self.register_buffer("shift", torch.tensor(float(shift)), persistent=False)
            self.register_buffer("scale", torch.tensor(float(scale)), persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) in [-1, 1] to the mean of its latent, (B, C, H / factor, W / factor)."""
        return (latent_of(self.network.encode(x)) - self.shift) * self.scale

    def decode(self, z: Tensor) -> Tensor:
        """The image (B, 3, h factor, w factor) of a latent z (B, C, h, w), not clamped."""
        if self.decoder is not None:
            return self.decoder.decode(z).sample
        return self.network.decode(z / self.scale + self.shift).sample


def latent_of(encoded: Any) -> Tensor:
    """What each kind of autoencoder calls the latent: the mean of a Gaussian, or the latent itself."""
    if hasattr(encoded, "latent_dist"):
        mean: Tensor = encoded.latent_dist.mean
        return mean
    latent: Tensor = encoded.latent if hasattr(encoded, "latent") else encoded.latents
    return latent


def factor_of(config: Any) -> int:
    """Pixels a latent's side: each level after the first halves."""
    levels = config.get("block_out_channels") or config.get("encoder_block_out_channels")
    return int(2 ** (len(levels) - 1))


def _check_decoder(model: Scaled, decoder: Any) -> None:
    channels, factor = decoder.config.latent_channels, factor_of(decoder.config)
    if (channels, factor) != (model.channels, model.factor):
        raise UserError(
            f"the tiny decoder is for latents of {channels} channels, {factor} pixels a side; this model's have {model.channels} "
            f"and {model.factor}: give the decoder that was made for it (taesd, taesdxl, taesd3, taef1)"
        )
