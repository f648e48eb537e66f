"""A prior over latents of Stable Diffusion 1.5's size, made from its configuration; the weights are noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from cfx.diffusion.ddpm import Schedule
from cfx.diffusion.latent_model import LatentModel
from cfx.diffusion.latent_prior import LatentPrior

BETAS = Schedule(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
UNET = {"sample_size": 64, "cross_attention_dim": 768}  # what is not a default of diffusers
VAE = {
    "sample_size": 512,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
TINY_UNET = {
    "sample_size": 24,
    "cross_attention_dim": 16,
    "block_out_channels": (32, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
}
TINY_VAE = {
    "sample_size": 48,
    "block_out_channels": (32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
TOKENS = 77  # of a prompt


class Prompted(nn.Module):
    """The UNet under one prompt."""

    prompt: Tensor  # (1, TOKENS, D)

    def __init__(self, unet: UNet2DConditionModel, width: int) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("prompt", torch.randn(1, TOKENS, width, generator=torch.Generator().manual_seed(0)))

    def forward(self, z: Tensor, timesteps: Tensor) -> Tensor:
        prompts = self.prompt.expand(len(z), -1, -1)
        found: Tensor = self.unet(z, timesteps, encoder_hidden_states=prompts).sample
        return found


@dataclass
class Latents:
    """The autoencoder's latents, scaled."""

    vae: AutoencoderKL
    factor: int
    channels: int = 4

    def encode(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W) to the mean of its latent."""
        found: Tensor = self.vae.encode(x).latent_dist.mean * self.vae.config.scaling_factor
        return found

    def decode(self, z: Tensor) -> Tensor:
        """The image of a latent."""
        found: Tensor = self.vae.decode(z / self.vae.config.scaling_factor).sample
        return found


def random_prior(tiny: bool, device: str) -> LatentPrior:
    """Its UNet in channels_last, at 512 pixels; a tiny one at 48."""
    of_unet, of_vae = (TINY_UNET, TINY_VAE) if tiny else (UNET, VAE)
    with torch.device(device):  # drawn where they are used: 0.9 billion
        unet, vae = UNet2DConditionModel(**of_unet), AutoencoderKL(latent_channels=4, **of_vae)
    unet, vae = unet.to(memory_format=torch.channels_last), vae.to(memory_format=torch.channels_last)
    network = Prompted(unet, unet.config.cross_attention_dim).to(device)
    for each in (network, vae):
        each.eval().requires_grad_(False)
    side = vae.config.sample_size
    return LatentPrior(LatentModel(network, BETAS, Latents(vae, side // unet.config.sample_size), side, None))
