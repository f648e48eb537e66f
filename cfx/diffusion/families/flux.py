"""FLUX.1, dev and schnell: flow matching over packed latents, with rotary positions (Black Forest Labs 2024)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from cfx.diffusion.families.family import Family, Inputs

PACKED = 2  # x 2 latents a token


def answer(transformer: nn.Module, z: Tensor, timesteps: Tensor, inputs: Inputs, factor: int) -> Tensor:
    """The velocity eps - x0, (B, C, h, w); h and w are even."""
    height, width = z.shape[2] // PACKED, z.shape[3] // PACKED
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).view(-1, 3).to(z)
    out = transformer(
        hidden_states=pixel_unshuffle(z, PACKED).flatten(2).transpose(1, 2),  # (B, h w / 4, 4 C)
        timestep=timesteps / 1000,
        guidance=inputs["guidance"].expand(len(z)) if "guidance" in inputs else None,
        pooled_projections=inputs["pooled"],
        encoder_hidden_states=inputs["prompt"],
        txt_ids=torch.zeros(inputs["prompt"].shape[1], 3).to(z),
        img_ids=places,
    ).sample
    return pixel_shuffle(out.transpose(1, 2).unflatten(2, (height, width)), PACKED)


def embed(pipeline: Any, prompt: str, negative: bool) -> Inputs:
    """T5's hidden states, (1, L, D), and CLIP's whole, (1, E)."""
    tokens, pooled, _ = pipeline.encode_prompt(prompt, None, "cpu", max_sequence_length=longest(pipeline)[1])
    return {"prompt": tokens, "pooled": pooled}


def embedded_guidance(transformer: nn.Module, scale: float) -> Inputs:
    """The scale itself, (1,), where the transformer was distilled to read it (dev)."""
    return {"guidance": torch.tensor([float(scale)])} if transformer.config.guidance_embeds else {}


def longest(pipeline: Any) -> tuple[Any, int]:
    """T5's: 512 tokens, or the 256 that schnell was trained with."""
    return pipeline.tokenizer_2, 512 if pipeline.transformer.config.guidance_embeds else 256


FLUX = Family(
    "transformer",
    "FluxTransformer2DModel",
    answer,
    text={"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"},
    embed=embed,
    longest=longest,
    embedded_guidance=embedded_guidance,
    packed=PACKED,
)
