"""Prompts into what a network reads: text encoders are loaded for a new prompt, and dropped afterwards unless more will come."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any

import torch
from torch import nn

from cfx.diffusion.conditioned import Conditioned
from cfx.diffusion.families import Inputs
from cfx.diffusion.pipeline_index import Index
from cfx.diffusion.pipeline_parts import quietly, read_text_encoder, read_tokenizer
from cfx.errors import UserError


class PromptReader:
    """The text side of a pipeline's folder: `cfx.diffusion.latent_model.TextEncoder`. What was read once is kept, the encoders
    are not, unless `keeps` is set: they are as large as the network, and a prompt seldom changes.
    """

    keeps = False

    def __init__(self, index: Index, network: nn.Module, channels: int, factor: int) -> None:
        """channels: of a latent; factor: pixels a latent's side. The network is the one that is conditioned."""
        self.index, self.network, self.channels, self.factor = index, network, channels, factor
        self.read: dict[tuple[str, bool], Inputs] = {}  # by prompt, and whether it is a negative one
        self.pipeline: Any = None  # kept where its encoders are not those of the folder, or with `keeps`
        self._reading = Lock()  # a fast tokenizer keeps how it pads, for whatever thread calls it next

    def conditioned(self, prompts: Sequence[str], negatives: Sequence[str] = ("",), guidance: float = 1.0) -> Conditioned:
        """The network under a prompt each image (or one for all), led away from the negatives by classifier-free guidance.

        A network that reads the scale itself is called once, and cannot be led away from a prompt. Raises UserError for that, and
        for a prompt that is too long.
        """
        device = next(self.network.parameters()).device
        embedded = {name: value.to(device) for name, value in self.index.family.embedded_guidance(self.network, guidance).items()}
        if embedded and any(negatives):
            raise UserError(
                f"negative_prompt is {next(filter(None, negatives))!r}, but {self.index.folder} was distilled to read the scale "
                "of its guidance, and knows no negative prompt; leave it out"
            )
        inputs = {**self._inputs(prompts, False), **embedded}
        away = self._inputs(negatives, True) if guidance != 1 and not embedded else None
        return Conditioned(self.network, self.index.family, self.channels, self.factor, inputs, away, guidance)

    def _inputs(self, prompts: Sequence[str], negative: bool) -> Inputs:
        """(len(prompts), ...) each, where the network is."""
        self.embed([(prompt, negative) for prompt in prompts])
        rows = [self.read[prompt, negative] for prompt in prompts]
        device = next(self.network.parameters()).device
        return {name: torch.cat([row[name] for row in rows]).to(device) for name in rows[0]}

    @torch.no_grad()
    def embed(self, prompts: Iterable[tuple[str, bool]], pipeline: Any = None) -> None:
        """Read those prompts (each with whether it is a negative one) that were not yet read; by a pipeline with its encoders, or
        by those of the folder.
        """
        with self._reading:
            new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.read]
            if not new:
                return
            pipeline = pipeline or self.pipeline or self.with_encoders()
            if self.keeps:
                self.pipeline = pipeline
            embed = self.index.family.embed
            assert embed is not None
            with quietly():
                for prompt, negative in new:
                    self._check_length(pipeline, prompt)
                    self.read[prompt, negative] = embed(pipeline, prompt, negative)

    def with_encoders(self) -> Any:
        """diffusers' pipeline with the text encoders and the network, without the rest."""
        import diffusers

        index, kind = self.index, getattr(diffusers, self.index.name)
        with quietly():
            encoders = {
                text: read_text_encoder(index.part(text), index.parts[text]) for text in index.family.text if text in index.parts
            }
            tokenizers = {
                part: read_tokenizer(index.part(part), index.parts[part])
                for part in index.family.text.values()
                if part in index.parts
            }
            lacking = {
                name: None for name, known in inspect.signature(kind.__init__).parameters.items() if known.default is known.empty
            }
            lacking.pop("self")
            known = inspect.signature(kind.__init__).parameters
            switches = {"requires_safety_checker": False, "add_watermarker": False, **index.settings}
            settings = {name: value for name, value in switches.items() if name in known}
            return kind(**{**lacking, **settings, **encoders, **tokenizers, index.family.part: self.network})

    def _check_length(self, pipeline: Any, prompt: str) -> None:
        tokenizer, most = self.index.family.longest(pipeline)
        taken = len(tokenizer(prompt).input_ids)
        if taken > most:
            raise UserError(
                f"a prompt takes {taken} tokens, but {self.index.name} reads {most}; use fewer words ({prompt[:60]!r} …)"
            )
