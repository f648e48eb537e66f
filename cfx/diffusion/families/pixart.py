"""PixArt-alpha and -sigma: a diffusion transformer that reads T5   (Chen et al. 2023, 2024)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cfx.diffusion.families.family import Family, Inputs


def answer(transformer: nn.Module, z: Tensor, timesteps: Tensor, inputs: Inputs, factor: int) -> Tensor:
    """The noise and its unused variance, (B, 2 C, h, w)."""
    height, width = z.shape[2] * factor, z.shape[3] * factor
    added: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
    if transformer.use_additional_conditions:
        size, ratio = [[height, width]], [[height / width]]
        given = zip(added, (size, ratio), strict=True)
        added = {name: torch.tensor(value).to(z).expand(len(z), -1) for name, value in given}
    return transformer(
        z,
        encoder_hidden_states=inputs["prompt"],
        encoder_attention_mask=inputs["mask"],
        timestep=timesteps,
        added_cond_kwargs=added,
    ).sample


def embed(pipeline: Any, prompt: str, negative: bool) -> Inputs:
    """T5's hidden states, (1, L, D), and which of them to read, (1, L). Prompts are not cleaned of web addresses."""
    tokens, mask, _, _ = pipeline.encode_prompt(prompt, False, device="cpu")
    return {"prompt": tokens, "mask": mask}


def _family(tokens: int) -> Family:
    return Family(
        "transformer",
        "PixArtTransformer2DModel",
        answer,
        text={"text_encoder": "tokenizer"},
        embed=embed,
        longest=lambda pipeline: (pipeline.tokenizer, tokens),
    )


PIXART_ALPHA, PIXART_SIGMA = _family(120), _family(300)
