"""What differs between the pipelines that can be a prior: the parts of their folder, what they read, how they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

Inputs = Mapping[str, Tensor]  # what a network reads beside a latent and its timestep, by name, each (1 or B, ...)
Config = Mapping[str, Any]  # a part's config.json


def no_guidance(network: nn.Module, scale: float) -> Inputs:
    """Of a network without an embedding of the guidance scale: it is guided from outside."""
    return {}


def of_tokenizer(pipeline: Any) -> tuple[Any, int]:
    """The pipeline's first tokenizer, and the length that it says itself."""
    return pipeline.tokenizer, pipeline.tokenizer.model_max_length


@dataclass(frozen=True)
class Family:
    """How the models of a pipeline class are read and called.

    answer(network, z (B, C, h, w), timesteps (B,), inputs, factor) is what the network says, (B, C or more, h, w); factor: pixels
    a latent's side. embed(pipeline, prompt, negative) are the inputs of one prompt, read as diffusers' pipeline reads it.
    """

    part: str  # folder of the network
    network: str  # its class in diffusers
    answer: Callable[[nn.Module, Tensor, Tensor, Inputs, int], Tensor]
    autoencoder: str | None = "vae"  # its folder; None: the network sees pixels
    autoencoders: tuple[str, ...] = ("AutoencoderKL", "AutoencoderTiny", "Folded")
    text: Mapping[str, str] = field(default_factory=dict)  # folder of a text encoder -> of its tokenizer
    optional: tuple[str, ...] = ()  # text encoders that a folder may lack
    embed: Callable[[Any, str, bool], Inputs] | None = None
    longest: Callable[[Any], tuple[Any, int]] = of_tokenizer  # the tokenizer that reads most of a prompt, and how many tokens
    embedded_guidance: Callable[[nn.Module, float], Inputs] = no_guidance  # of a network that reads the scale itself
    classes: str | None = None  # where its config says how many classes it knows
    empty_class: bool = False  # whether one more class stands for none of them
    packed: int = 1  # latents a position of the network: one side
    demands: Mapping[str, tuple[object, ...]] = field(default_factory=dict)  # fields of its config, and what they may say
