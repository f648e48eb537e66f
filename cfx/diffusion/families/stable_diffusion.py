"""Stable Diffusion 1.x and 2.x, and latent consistency models grown from them   (Rombach et al. 2022; Luo et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cfx.diffusion.families.family import Family, Inputs


def answer(unet: nn.Module, z: Tensor, timesteps: Tensor, inputs: Inputs, factor: int) -> Tensor:
    """Noise, velocity or clean latent, (B, C, h, w)."""
    return unet(z, timesteps, encoder_hidden_states=inputs["prompt"], timestep_cond=inputs.get("guidance")).sample


def embed(pipeline: Any, prompt: str, negative: bool) -> Inputs:
    """The last hidden states of CLIP, (1, L, D)."""
    return {"prompt": pipeline.encode_prompt(prompt, "cpu", 1, False)[0]}


def embedded_guidance(unet: nn.Module, scale: float) -> Inputs:
    """The scale as sines and cosines, (1, D), where the UNet was distilled to read it   (Luo et al. 2023, sec. 4.2)."""
    from diffusers import LatentConsistencyModelPipeline

    width = unet.config.time_cond_proj_dim
    if width is None:
        return {}
    above_one = torch.tensor([scale - 1])  # diffusers' convention: 1 is no guidance
    return {"guidance": LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, above_one, embedding_dim=width)}


NO_CLASSES: dict[str, tuple[object, ...]] = {  # nor levels of noise or images in their place
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "encoder_hid_dim_type": (None, "text_proj"),
}
STABLE_DIFFUSION = Family(
    "unet",
    "UNet2DConditionModel",
    answer,
    text={"text_encoder": "tokenizer"},
    embed=embed,
    embedded_guidance=embedded_guidance,
    demands=NO_CLASSES | {"addition_embed_type": (None, "text")},
)
