"""Models of classes or of nothing: diffusion transformers (DiT, SiT), latent diffusion of one kind of images, UNets of pixels."""

from __future__ import annotations

from torch import Tensor, nn

from cfx.diffusion.families.family import Family, Inputs


def answer(network: nn.Module, z: Tensor, timesteps: Tensor, inputs: Inputs, factor: int) -> Tensor:
    """What the network predicts, (B, C, h, w), or (B, 2 C, h, w) with its unused variance."""
    return network(z, timesteps, class_labels=inputs.get("label")).sample


DIT = Family(  # Peebles & Xie 2022; of flow matching it is SiT, Ma et al. 2024
    "transformer", "DiTTransformer2DModel", answer, classes="num_embeds_ada_norm", empty_class=True
)
LATENT_DIFFUSION = Family(  # Rombach et al. 2022
    "unet",
    "UNet2DModel",
    answer,
    autoencoder="vqvae",
    autoencoders=("VQModel", "AutoencoderKL"),
    classes="num_class_embeds",
    demands={"class_embed_type": (None,)},
)
PIXELS = Family(
    "unet", "UNet2DModel", answer, autoencoder=None, classes="num_class_embeds", demands={"class_embed_type": (None,)}
)
