"""The network and the autoencoder of a pipeline's folder, checked against each other and against what a prior is given."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import nn

from cfx.diffusion.autoencoders import Pixels, Scaled
from cfx.diffusion.ddpm import set_heads
from cfx.diffusion.latent_model import Autoencoder, Parts
from cfx.diffusion.pipeline_index import Index
from cfx.diffusion.pipeline_parts import LEGACY, read_network
from cfx.errors import UserError


def network_of(index: Index, parts: Parts) -> nn.Module:
    """The UNet or transformer, the pipeline's own or the fine-tuned one that stands in for it.

    Raises UserError for one of another class, or that reads more than a latent, its step and a prompt or class.
    """
    family = index.family
    said = index.parts[family.part]
    if said not in (family.network, LEGACY):
        raise UserError(f"{index.folder}: the {family.part} of a {index.name} is a {family.network}, but this is a {said}")
    folder = index.part(family.part) if parts.network is None else _network_folder(Path(parts.network), family.part)
    network: Any = read_network(folder, family.network)
    if network.config.get("_num_heads") is not None:
        set_heads(network, network.config["_num_heads"])
    for name, allowed in family.demands.items():
        if network.config.get(name) not in allowed:
            raise UserError(
                f"{folder}: {name} is {network.config.get(name)!r}, so that it reads more than a {index.name} is given here; "
                "use a model that draws from noise and " + ("a prompt" if family.text else "a class") + " alone"
            )
    return network


def _network_folder(folder: Path, part: str) -> Path:
    for place in (folder, folder / part):
        if (place / "config.json").is_file():
            return place
    raise FileNotFoundError(f"there is no {part} in {folder}: config.json is missing; give the folder that training wrote")


def autoencoder_of(index: Index, network: Any, parts: Parts) -> Pixels | Scaled:
    """The autoencoder, with the tiny decoder if one is given. Raises UserError for one of another class."""
    name = index.family.autoencoder
    if name is None:
        channels = network.config["in_channels"]
        patch = math.isqrt(channels // 3)
        if 3 * patch**2 != channels:
            raise UserError(f"{index.folder}: in_channels is {channels}, but images have 3 (or 3 p^2, folded p x p)")
        if parts.decoder is not None:
            raise UserError(f"{index.folder} draws pixels, and needs no decoder; take `decoder` out")
        return Pixels(patch)
    said = index.parts[name]
    if said not in index.family.autoencoders:
        raise UserError(
            f"{index.folder}: {name} is a {said}; of a {index.name} it is one of {', '.join(index.family.autoencoders)}"
        )
    decoder = None if parts.decoder is None else read_network(_network_folder(Path(parts.decoder), "vae"), "AutoencoderTiny")
    return Scaled(read_network(index.part(name), said), decoder).eval().requires_grad_(False)


def check_channels(index: Index, network: Any, autoencoder: Autoencoder) -> None:
    """Raises UserError for a network that reads or answers something else than a latent."""
    family, config = index.family, network.config
    reads, needed = config["in_channels"], autoencoder.channels * family.packed**2
    if reads != needed:
        raise UserError(
            f"{index.folder}/{family.part} reads {reads} channels, but a latent has {needed}: inpainting networks read a mask "
            "and the masked image, too, those for depth, editing or upscaling another image; give a model that draws from noise"
        )
    answers = config.get("out_channels") or reads
    if answers not in (reads, 2 * reads):
        raise UserError(f"{index.folder}/{family.part} answers {answers} channels, but {reads} are needed, or twice as many")


def side_of(network: Any, autoencoder: Any) -> int | None:
    """Of the images that the model draws, pixels. FLUX says it in its autoencoder alone."""
    said = network.config.get("sample_size")
    if said is not None:
        return int(max(said) if isinstance(said, list | tuple) else said) * int(autoencoder.factor)
    said = autoencoder.network.config.get("sample_size") if isinstance(autoencoder, Scaled) else None
    return None if said is None else int(max(said) if isinstance(said, list | tuple) else said)
