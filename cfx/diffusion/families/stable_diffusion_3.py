"""Stable Diffusion 3 and 3.5: flow matching by a transformer over text and image   (Esser et al. 2024)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cfx.diffusion.families.family import Family, Inputs, of_tokenizer


def answer(transformer: nn.Module, z: Tensor, timesteps: Tensor, inputs: Inputs, factor: int) -> Tensor:
    """The velocity eps - x0, (B, C, h, w)."""
    return transformer(
        hidden_states=z, timestep=timesteps, encoder_hidden_states=inputs["prompt"], pooled_projections=inputs["pooled"]
    ).sample


def embed(pipeline: Any, prompt: str, negative: bool) -> Inputs:
    """Two CLIPs and T5 (zeros where the folder has none) one after the other, (1, L, D), and the CLIPs' whole, (1, E)."""
    tokens, _, pooled, _ = pipeline.encode_prompt(prompt, None, None, device="cpu", do_classifier_free_guidance=False)
    return {"prompt": tokens, "pooled": pooled}


def longest(pipeline: Any) -> tuple[Any, int]:
    """T5's, or CLIP's where there is none."""
    return of_tokenizer(pipeline) if pipeline.tokenizer_3 is None else (pipeline.tokenizer_3, 256)


STABLE_DIFFUSION_3 = Family(
    "transformer",
    "SD3Transformer2DModel",
    answer,
    text={"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2", "text_encoder_3": "tokenizer_3"},
    optional=("text_encoder_3",),
    embed=embed,
    longest=longest,
)
