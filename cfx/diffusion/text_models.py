"""Text-to-image models for edits by word: which loader reads a folder, and what is refused before work starts."""

from __future__ import annotations

import torch

from cfx.diffusion.between_prompts import BetweenPrompts
from cfx.diffusion.flow_scheduler import read_flow
from cfx.diffusion.hub import model_folder
from cfx.diffusion.latent import LatentDiffusion, load_latent
from cfx.errors import UserError


def load_text_model(
    source: str, revision: str | None = None, device: torch.device | str = "cpu"
) -> LatentDiffusion | BetweenPrompts:
    """A text-to-image model in diffusers' format, float32, frozen: a local folder, `portraits:text`, or a hub id.

    revision: of a hub id, a commit (best), tag or branch. Raises as `cfx.diffusion.latent.load_latent`, which reads Stable
    Diffusion's own format, and as `cfx.diffusion.pipelines.load_latent_model`, which reads the others; UserError for a model that
    reads no prompts.
    """
    from cfx.diffusion.pipeline_index import read_index  # transformers are the extra `sd`
    from cfx.diffusion.pipelines import load_latent_model

    folder = model_folder(source, revision).path
    index = read_index(folder)
    if not index.family.text:
        raise UserError(
            f"{source}: a {index.name} reads no prompts, so that a word edits nothing; name a text-to-image model, such as "
            "`portraits:text`, or leave `named` out: edits then follow the oracle's gradient"
        )
    if index.name == "StableDiffusionPipeline" and read_flow(index.part("scheduler") / "scheduler_config.json", tokens=1) is None:
        return load_latent(str(folder), device)
    return BetweenPrompts(load_latent_model(str(folder), device=device))
