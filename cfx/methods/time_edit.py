"""TIME: counterfactuals by text-to-image diffusion, for a classifier that only answers (Jeanneret et al. 2024, arXiv:2309.07944).

The image is inverted under its predicted class's prompt, away from the target's, and denoised the other way round. The prompts'
words were learned from *predicted* labels (`textual_inversion`): they say what goes with a prediction in the pool, not what the
classifier relies on.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cfx.diffusion.between_prompts import TextModel
from cfx.diffusion.schedule import check_depth
from cfx.errors import UserError
from cfx.methods.edict import Edict, Pair
from cfx.types import Config, Counterfactual


class TIME(Config):
    """TIME's knobs. Its ladder, as published for smiles: (tau, scale) = (25, 3), (30, 4), (35, 4), (35, 6)."""

    method: Literal["time"] = "time"
    steps: int = Field(50, ge=1, description="DDIM steps of a whole denoising")
    tau: int = Field(25, ge=1, description="of these, how many the image is inverted")
    scale: float = Field(3.0, ge=0, description="g in eps(away) + g (eps(towards) - eps(away))")
    p: float = Field(0.93, gt=0.5, le=1, description="share that EDICT keeps in mixing its latents")
    legacy_inverse: bool = Field(
        False,
        description="invert one step off, as diffusers 0.16.1 did, and with it the published numbers; it is not undone exactly",
    )

    @model_validator(mode="after")
    def _deep_enough(self) -> TIME:
        check_depth(self.tau, self.steps)
        return self


def check_levels(alphas_cumprod: Tensor, config: TIME) -> None:
    """Raises UserError for more steps than a model has noise levels (N,), and for a depth where nothing of the image is left."""
    known = len(alphas_cumprod)
    if config.steps > known:
        raise UserError(
            f"steps is {config.steps}, but the model knows {known} noise levels; lower `steps`, and tau with it, or name a model "
            "that was trained on more"
        )
    edict = Edict(alphas_cumprod, config.steps, config.p, config.legacy_inverse)
    deepest = min(edict.timestep(config.tau - 1 + config.legacy_inverse), known - 1)
    if float(alphas_cumprod[deepest]) <= 0:
        raise UserError(
            f"tau is {config.tau} of {config.steps} steps, where the model leaves nothing of the image to come back to; lower tau"
        )


Inversions = MutableMapping[tuple[str, str, str, float, int, float, bool], list[Pair]]  # see `time_edit`


@torch.no_grad()
def time_edit(
    model: TextModel,
    x: Tensor,
    source: Sequence[str],
    target: Sequence[str],
    config: TIME,
    image_ids: Sequence[str],
    inversions: Inversions,
) -> Counterfactual:
    """Counterfactuals of x (B, 3, H, W) in [-1, 1], from prompts `source` (B) to prompts `target` (B).

    Inversions are nested in tau, so that a retry that goes deeper with the same guidance goes on where the last one stopped:
    `inversions` keeps the latents of every depth by image, prompts, scale, steps, p and kind of inverse.
    """
    edict = Edict(model.alphas_cumprod, config.steps, config.p, config.legacy_inverse)
    edited = []
    for i, image_id in enumerate(image_ids):
        here, there = model.embed([source[i]]), model.embed([target[i]])

        def noise_of_source(z: Tensor, t: int, here: Tensor = here, there: Tensor = there) -> Tensor:
            return model.guided(z, t, here, there, config.scale)

        def noise_of_target(z: Tensor, t: int, here: Tensor = here, there: Tensor = there) -> Tensor:
            return model.guided(z, t, there, here, config.scale)

        key = (image_id, source[i], target[i], config.scale, config.steps, config.p, config.legacy_inverse)
        known = inversions.get(key, [])
        if len(known) <= config.tau:
            z = model.encode(x[i : i + 1]).double() if not known else known[0].a
            known = inversions[key] = edict.invert(noise_of_source, Pair(z, z), config.tau, known)
        edited.append(edict.denoise(noise_of_target, known[config.tau], config.tau).a)
    return Counterfactual(model.decode(torch.cat(edited), (x.shape[-2], x.shape[-1])), None)
