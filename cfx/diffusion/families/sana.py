"""SANA: flow matching by a linear transformer over the deeply compressed latents of AutoencoderDC   (Xie et al. 2024)."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from cfx.diffusion.families.family import Family, Inputs


def answer(transformer: nn.Module, z: Tensor, timesteps: Tensor, inputs: Inputs, factor: int) -> Tensor:
    """The velocity eps - x0, (B, C, h, w)."""
    return transformer(
        z,
        encoder_hidden_states=inputs["prompt"],
        encoder_attention_mask=inputs["mask"],
        timestep=timesteps * transformer.config.timestep_scale,
    ).sample


def embed(pipeline: Any, prompt: str, negative: bool) -> Inputs:
    """Gemma's hidden states, (1, L, D), and which of them to read, (1, L).

    A prompt follows diffusers' long instruction, as in training; negative ones, and the empty one, do not.
    """
    usual = inspect.signature(type(pipeline).__call__).parameters["complex_human_instruction"].default
    instruction = usual if prompt and not negative else None
    tokens, mask, _, _ = pipeline.encode_prompt(prompt, False, device="cpu", complex_human_instruction=instruction)
    return {"prompt": tokens, "mask": mask}


SANA = Family(
    "transformer",
    "SanaTransformer2DModel",
    answer,
    autoencoders=("AutoencoderDC",),
    text={"text_encoder": "tokenizer"},
    embed=embed,
    longest=lambda pipeline: (pipeline.tokenizer, 300),
    demands={"guidance_embeds": (False, None)},
)
