"""Any generator that reads prompts as edits by word need it: images to latents and back, and the noise between two prompts.

`cfx.diffusion.latent.LatentDiffusion` is the same for Stable Diffusion's format alone, to which new words can be given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from cfx.diffusion.ddpm import Schedule
from cfx.diffusion.latent import in_a_square, out_of_the_square
from cfx.diffusion.latent_model import LatentModel
from cfx.diffusion.latent_prior import EVEN, LatentPrior
from cfx.errors import UserError
from cfx.images import Size


class TextModel(Protocol):
    """What edits by word ask of a text-to-image model. Images are (B, 3, H, W) in [-1, 1], latents (B, C, h, w)."""

    @property
    def alphas_cumprod(self) -> Tensor:
        """(N,) float64: of all noise levels that it was trained at."""
        ...

    def encode(self, x: Tensor) -> Tensor:
        """The latent of an image."""
        ...

    def decode(self, z: Tensor, size: Size) -> Tensor:
        """The image of this size (a side, or height and width, pixels) that a latent stands for."""
        ...

    def embed(self, prompts: Sequence[str]) -> Any:
        """Prompts, one for each of B latents, as `guided` takes them. Raises UserError for one that is too long."""
        ...

    def guided(self, z: Tensor, t: int, towards: Any, away: Any, scale: float) -> Tensor:
        """eps(away) + scale (eps(towards) - eps(away)) in z at level t, in z's precision. Costs two evaluations a latent."""
        ...


class BetweenPrompts:
    """A `TextModel` of any `LatentModel` that reads prompts, of noise in steps or of straight paths: level t of a flow is that of
    the diffusion model in its place (`cfx.diffusion.flow`).

    A network that reads the scale of its guidance is told 1, none: the guidance is that between the prompts. Raises UserError for
    a model without prompts, and for one that was distilled to few steps.
    """

    def __init__(self, model: LatentModel) -> None:
        if model.text is None:
            raise UserError("this model reads no prompts, so that a word edits nothing; name one that does")
        if isinstance(model.schedule, Schedule) and model.schedule.distilled_steps is not None:
            raise UserError(
                f"the model was distilled to {model.schedule.distilled_steps} steps, and between them its answers mean nothing: "
                "nothing can be inverted; name the one that it was distilled from"
            )
        self.model, self.text, self.levels = model, model.text, LatentPrior(model)
        self.text.keeps = True  # nearly every image brings a new prompt

    @property
    def alphas_cumprod(self) -> Tensor:
        """(N,) float64."""
        return self.levels.alphas_cumprod

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """The mean of the latent (B, C, h, w) of x (B, 3, H, W) in [-1, 1]: padded with black to a square, centred, and resampled
        to the model's side; where it does not say one, to the next that is whole latents.
        """
        whole = self.model.autoencoder.factor * EVEN
        side = self.model.side or -(-max(x.shape[-2:]) // whole) * whole
        return self.model.autoencoder.encode(in_a_square(x, side))

    @torch.no_grad()
    def decode(self, z: Tensor, size: Size) -> Tensor:
        """The image (B, 3, H, W) in [-1, 1] of a latent (B, C, h, w), of which the centre of this size is cut out."""
        return out_of_the_square(self.model.autoencoder.decode(z.float()), size)

    def embed(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """The prompts themselves, which the model has read then. Raises UserError for one that is too long."""
        self.text.conditioned(prompts)
        return tuple(prompts)

    @torch.no_grad()
    def guided(self, z: Tensor, t: int, towards: Sequence[str], away: Sequence[str], scale: float) -> Tensor:
        """eps(away) + scale (eps(towards) - eps(away)) in z (B, C, h, w) at level t, both in one call of the network."""
        network, schedule = self.text.conditioned([*towards, *away]), self.model.schedule
        seen, (signal, sigma) = torch.cat([z, z]), self.levels.amounts(t)
        timesteps = torch.full((len(seen),), self.levels.timesteps[t], device=z.device)
        out = network(schedule.state(seen, signal, sigma).float(), timesteps).to(z.dtype)
        there, here = schedule.noise(out, seen, signal, sigma).chunk(2)
        return here + scale * (there - here)
