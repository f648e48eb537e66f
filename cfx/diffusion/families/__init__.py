"""The pipelines that can be a prior, by the name of their class in diffusers."""

from collections.abc import Mapping

from cfx.diffusion.families.classes import DIT, LATENT_DIFFUSION, PIXELS
from cfx.diffusion.families.family import Family, Inputs
from cfx.diffusion.families.flux import FLUX
from cfx.diffusion.families.pixart import PIXART_ALPHA, PIXART_SIGMA
from cfx.diffusion.families.sana import SANA
from cfx.diffusion.families.stable_diffusion import STABLE_DIFFUSION
from cfx.diffusion.families.stable_diffusion_3 import STABLE_DIFFUSION_3
from cfx.diffusion.families.stable_diffusion_xl import STABLE_DIFFUSION_XL

__all__ = ["FAMILIES", "Family", "Inputs"]

FAMILIES: Mapping[str, Family] = {
    "StableDiffusionPipeline": STABLE_DIFFUSION,
    "LatentConsistencyModelPipeline": STABLE_DIFFUSION,
    "StableDiffusionXLPipeline": STABLE_DIFFUSION_XL,
    "StableDiffusion3Pipeline": STABLE_DIFFUSION_3,
    "FluxPipeline": FLUX,
    "SanaPipeline": SANA,
    "PixArtAlphaPipeline": PIXART_ALPHA,
    "PixArtSigmaPipeline": PIXART_SIGMA,
    "DiTPipeline": DIT,
    "LDMPipeline": LATENT_DIFFUSION,
    "DDPMPipeline": PIXELS,
    "DDIMPipeline": PIXELS,
    "PNDMPipeline": PIXELS,
}
