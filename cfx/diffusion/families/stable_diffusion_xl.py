"""Stable Diffusion XL and its turbo and lightning students   (Podell et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cfx.diffusion.families.family import Family, Inputs
from cfx.diffusion.families.stable_diffusion import NO_CLASSES, embedded_guidance


def answer(unet: nn.Module, z: Tensor, timesteps: Tensor, inputs: Inputs, factor: int) -> Tensor:
    """Noise or velocity, (B, C, h, w), of images that were as large as they are drawn and not cropped (sec. 2.2)."""
    size = [z.shape[2] * factor, z.shape[3] * factor]
    ids = torch.tensor([[*size, 0, 0, *size]], dtype=z.dtype, device=z.device).expand(len(z), -1)
    added = {"text_embeds": inputs["pooled"], "time_ids": ids}
    prompt, guidance = inputs["prompt"], inputs.get("guidance")
    return unet(z, timesteps, encoder_hidden_states=prompt, timestep_cond=guidance, added_cond_kwargs=added).sample


def embed(pipeline: Any, prompt: str, negative: bool) -> Inputs:
    """Both CLIPs' last hidden states but one, (1, L, D), and what the second says of the whole, (1, E).

    The empty prompt is zeros where the model was trained so (force_zeros_for_empty_prompt).
    """
    tokens, _, pooled, _ = pipeline.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
    seen = 0 if not prompt and pipeline.config.force_zeros_for_empty_prompt else 1
    return {"prompt": seen * tokens, "pooled": seen * pooled}


STABLE_DIFFUSION_XL = Family(
    "unet",
    "UNet2DConditionModel",
    answer,
    text={"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"},
    embed=embed,
    embedded_guidance=embedded_guidance,
    demands=NO_CLASSES | {"addition_embed_type": ("text_time",)},
)
