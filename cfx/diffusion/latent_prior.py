"""A prior over latents: a generator with an autoencoder, as the `Denoiser` that methods take (Rombach et al. 2022).

Its states are latents (B, C, h, w). A method is led to them by `cfx.latent_space`, which encodes the image before and decodes the
latent after it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic_core import from_json
from torch import Tensor

from cfx.diffusion.ddpm import DDPM
from cfx.diffusion.latent_model import Autoencoder, LatentModel

AUTOENCODERS = {"vae", "vqvae", "movq"}  # what diffusers' pipelines call it
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
EVEN = 2  # positions of a latent that transformers see as one, and the least that a UNet halves


class LatentPrior(DDPM):
    """A latent diffusion or flow model, already conditioned, respaced to `steps`.

    As `DDPM`, but over latents of the model's autoencoder, whose clean estimate is clipped only where the schedule says so.
    """

    autoencoder: Autoencoder

    def __init__(
        self, model: LatentModel, steps: int | None = None, summed: bool = False, class_prompts: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(model.network, model.schedule, model.autoencoder.channels, steps, summed=summed, patch=1)
        self.model, self.autoencoder, self.class_prompts = model, model.autoencoder, class_prompts or {}
        self.multiple = 1  # `drawn_size` sees to it
        if self.class_prompts and model.text is not None:
            model.text.conditioned([*self.class_prompts.values()])  # read now, so that a prompt that is too long is known

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width, pixels, of the images that the model draws; None where it does not say."""
        return None if self.model.side is None else (self.model.side, self.model.side)

    def drawn_size(self, height: int, width: int) -> tuple[int, int] | None:
        """As `DDPM.drawn_size`, with sides that are whole latents, an even number of them."""
        share = 1.0 if self.size is None else max(self.size) / max(height, width)
        of_latents = self.autoencoder.factor * EVEN
        drawn = (
            max(1, round(height * share / of_latents)) * of_latents,
            max(1, round(width * share / of_latents)) * of_latents,
        )
        return None if drawn == (height, width) else drawn

    def respaced(self, steps: int, summed: bool = False) -> LatentPrior:
        """The same model over `steps` of its original steps; `summed` as in `respaced_timesteps`."""
        return LatentPrior(self.model, steps, summed, self.class_prompts)

    @torch.no_grad()
    def noise_of_classes(self, z: Tensor, t: int, classes: Sequence[str]) -> Tensor:
        """The noise in z (B, C, h, w) at respaced index t where each image is of a class, one of B: under that class's prompt."""
        assert self.model.text is not None
        network = self.model.text.conditioned([self.class_prompts[name] for name in classes])
        signal, sigma = self.amounts(t)
        timesteps = torch.full((len(z),), self.timesteps[t], device=z.device)
        out = network(self.schedule.state(z, signal, sigma), timesteps).float()
        return (z - signal * self.schedule.clean(out, z, signal, sigma)) / sigma


def is_generator(source: Path) -> bool:
    """Whether a prior is one over latents: a folder whose model_index.json names an autoencoder, or a hub's id (no folder)."""
    index = source / "model_index.json"
    if index.is_file():
        return not AUTOENCODERS.isdisjoint(from_json(index.read_bytes()))
    return not source.exists() and HUB_ID.fullmatch(source.as_posix()) is not None
