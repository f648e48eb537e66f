"""Any pipeline of diffusers as a prior: read from a folder or a hub id, conditioned once, frozen. Needs the extra `sd`.

What a folder may hold stands in `cfx.diffusion.families`; what is refused, in `cfx.diffusion.pipeline_index`.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cfx.diffusion.autoencoders import Pixels, Scaled
from cfx.diffusion.conditioned import Conditioned, multiple_of
from cfx.diffusion.ddpm import Schedule, set_heads
from cfx.diffusion.families import Inputs
from cfx.diffusion.flow import Flow
from cfx.diffusion.hub import TEXT, model_folder
from cfx.diffusion.latent_model import Autoencoder, Conditioning, LatentModel, Parts
from cfx.diffusion.lora import fuse
from cfx.diffusion.noise_process import read_process
from cfx.diffusion.pipeline_index import Index, read_index
from cfx.diffusion.pipeline_parts import LEGACY, quietly, read_network
from cfx.diffusion.prompt_reader import PromptReader
from cfx.errors import UserError


def load_latent_model(
    source: str,
    revision: str | None = None,
    conditioning: Conditioning = Conditioning(),  # noqa: B008  (frozen)
    device: torch.device | str = "cpu",
    parts: Parts = Parts(),  # noqa: B008  (frozen)
) -> LatentModel:
    """A pipeline in diffusers' format, float32, frozen, under one prompt or class: a local folder, `portraits:text`, or a hub id.

    revision: of a hub id, a commit (best), tag or branch. Raises ImportError without an extra that it needs, FileNotFoundError
    where there is no such model and none can be downloaded, UserError naming what cannot be a prior (its class, scheduler, number
    of channels), weights that are missing, unexpected or not finite, and conditioning that the model does not read.
    """
    try:
        import diffusers
        import transformers  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"pipelines of diffusers need transformers; install it with: pip install 'cfx-audit[sd]' ({error})"
        ) from error
    index = read_index(model_folder(source, revision).path)
    if not hasattr(diffusers, index.name):
        raise UserError(f"{source}: diffusers {diffusers.__version__} has no {index.name} any more; install an older one")
    with quietly():
        network = _network(index, parts)
        autoencoder = _autoencoder(index, network, parts)
    side = _side(index, network, autoencoder)
    _check_channels(index, network, autoencoder)
    if index.family.text:
        return _of_prompts(index, network, autoencoder, side, conditioning, device, parts)
    return _of_classes(index, network, autoencoder, side, conditioning, device, parts)


def _of_prompts(
    index: Index,
    network: nn.Module,
    autoencoder: Any,
    side: int | None,
    conditioning: Conditioning,
    device: torch.device | str,
    parts: Parts,
) -> LatentModel:
    """Its prompt is read on the CPU, before anything is moved: the text encoders never take the device's memory."""
    if conditioning.label is not None:
        raise UserError(f"label is {conditioning.label!r}, but a {index.name} reads prompts; set `prompt` instead")
    reader = PromptReader(index, network, autoencoder.channels, autoencoder.factor)
    prompt, negative, pipeline = conditioning.prompt, conditioning.negative_prompt, reader.with_encoders()
    if parts.lora is not None and fuse(pipeline, *parts.lora):
        reader.pipeline = pipeline
    reader.embed([(prompt, False), *([(negative, True)] if conditioning.guidance != 1 else [])], pipeline)
    del pipeline
    if conditioning.guidance != 1 and prompt == negative and not index.family.embedded_guidance(network, 1.0):
        raise UserError(
            f"guidance is {conditioning.guidance:g}, but it leads from the negative prompt to the prompt, and both are {prompt!r}; "
            "set `prompt`, or leave guidance out"
        )
    network.to(device)
    conditioned = reader.conditioned((prompt,), (negative,), conditioning.guidance)
    return LatentModel(conditioned, _process(index, network, autoencoder, side), autoencoder.to(device), side, reader)


def _of_classes(
    index: Index,
    network: nn.Module,
    autoencoder: Any,
    side: int | None,
    conditioning: Conditioning,
    device: torch.device | str,
    parts: Parts,
) -> LatentModel:
    if conditioning.prompt or conditioning.negative_prompt:
        raise UserError(f"prompt is {conditioning.prompt!r}, but a {index.name} reads none; leave it out (`label` names a class)")
    if parts.lora is not None:
        raise UserError(f"a {index.name} takes no low-rank weights; take `lora` out, or give a fine-tuned network's folder")
    label = class_of(index, network, conditioning.label)
    empty = _empty_class(index, network)
    if conditioning.guidance != 1 and (empty is None or label in (None, empty)):
        why = "it was not trained without a class" if empty is None else "no `label` is set"
        raise UserError(
            f"guidance is {conditioning.guidance:g}, but there is nothing to lead away from or to: {why}; leave it out"
        )
    network.to(device)
    towards, away = (_label(value, device) for value in (label, empty if conditioning.guidance != 1 else None))
    conditioned = Conditioned(
        network, index.family, autoencoder.channels, autoencoder.factor, towards, away or None, conditioning.guidance
    ).eval()
    return LatentModel(conditioned, _process(index, network, autoencoder, side), autoencoder.to(device), side, None)


def _label(label: int | None, device: torch.device | str) -> Inputs:
    return {} if label is None else {"label": torch.tensor([label], device=device)}


def class_of(index: Index, network: Any, label: str | int | None) -> int | None:
    """The number of a class by its name (model_index.json's id2label) or number; the empty class, or None of a model without
    classes, where no label is given. Raises UserError for a class that there is not, or that has to be said.
    """
    classes = network.config.get(index.family.classes)
    if classes is None:
        if label is not None:
            raise UserError(f"label is {label!r}, but {index.folder} knows no classes; leave it out")
        return None
    if label is None:
        if not index.family.empty_class:
            raise UserError(
                f"{index.folder} draws {classes} classes, and was not trained without one; set `label` (0 to {classes - 1})"
            )
        return int(classes)
    if isinstance(label, int) or label.isdecimal():
        if not 0 <= int(label) < classes:
            raise UserError(f"label is {label}, but the classes of {index.folder} are 0 to {classes - 1}")
        return int(label)
    names = index.settings.get("id2label") or {}
    found = [int(number) for number, name in names.items() if label in (name, *map(str.strip, name.split(",")))]
    if len(found) != 1:
        way_out = f"one of {', '.join(map(str, found))}" if found else f"a number, 0 to {classes - 1}"
        nothing = f"{len(found)} classes of {index.folder} are called so" if found else f"no class of {index.folder} is called so"
        raise UserError(f"label is {label!r}, and {nothing}; set {way_out}")
    return found[0]


def _empty_class(index: Index, network: Any) -> int | None:
    return int(network.config[index.family.classes]) if index.family.empty_class and index.family.classes else None


def _network(index: Index, parts: Parts) -> nn.Module:
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
                f"{folder}: {name} is {network.config.get(name)!r}, so that it reads more than a {index.name} is given here; use a "
                "model that draws from noise and " + ("a prompt" if family.text else "a class") + " alone"
            )
    return network


def _network_folder(folder: Path, part: str) -> Path:
    for place in (folder, folder / part):
        if (place / "config.json").is_file():
            return place
    raise FileNotFoundError(f"there is no {part} in {folder}: config.json is missing; give the folder that training wrote")


def _autoencoder(index: Index, network: Any, parts: Parts) -> Any:
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


def _check_channels(index: Index, network: Any, autoencoder: Autoencoder) -> None:
    """Raises UserError for a network that reads or answers something else than a latent."""
    family, config = index.family, network.config
    reads, needed = config["in_channels"], autoencoder.channels * family.packed**2
    if reads != needed:
        raise UserError(
            f"{index.folder}/{family.part} reads {reads} channels, but a latent has {needed}: networks for inpainting read a mask and "
            "the masked image, too, those for depth, editing or upscaling another image; give the model that draws from noise alone"
        )
    answers = config.get("out_channels") or reads
    if answers not in (reads, 2 * reads):
        raise UserError(f"{index.folder}/{family.part} answers {answers} channels, but {reads} are needed, or twice as many")


def _side(index: Index, network: Any, autoencoder: Any) -> int | None:
    """Of the images that the model draws, pixels. FLUX says it in its autoencoder alone."""
    said = network.config.get("sample_size")
    if said is not None:
        return int(max(said) if isinstance(said, list | tuple) else said) * int(autoencoder.factor)
    said = autoencoder.network.config.get("sample_size") if isinstance(autoencoder, Scaled) else None
    return None if said is None else int(max(said) if isinstance(said, list | tuple) else said)


def _process(index: Index, network: Any, autoencoder: Autoencoder, side: int | None) -> Schedule | Flow:
    patch = multiple_of(network, index.family)
    tokens = None if side is None else (side // autoencoder.factor // patch) ** 2
    return read_process(index.part("scheduler") / "scheduler_config.json", tokens)


def pipeline_fingerprint(source: str, revision: str | None = None, parts: Parts = Parts()) -> str:  # noqa: B008  (frozen)
    """SHA-256 that changes with whatever `load_latent_model` reads: of a hub id its name and the commit that `revision` means,
    of a folder (and of `parts`) the names and contents of its configs, vocabularies and weights.

    Raises FileNotFoundError as `load_latent_model` does.
    """
    digest = hashlib.sha256()
    folder = model_folder(source, revision)
    if folder.commit is None:
        _add(digest, folder.path)
    else:
        digest.update(f"{source}@{folder.commit}\0".encode())
    for kind, place in (("network", parts.network), ("decoder", parts.decoder), ("lora", parts.lora and parts.lora[0])):
        if place is not None:
            digest.update(f"{kind}\0".encode())
            _add(digest, Path(place))
    return digest.hexdigest()


def _add(digest: hashlib._Hash, place: Path) -> None:
    found = [place] if place.is_file() else sorted(file for end in (*TEXT, "safetensors") for file in place.rglob(f"*.{end}"))
    for file in found:
        digest.update(f"{file.relative_to(place) if place.is_dir() else file.name}\0".encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
