"""Any pipeline of diffusers as a prior: read from a folder or a hub id, conditioned once, frozen. Needs the extra `sd`.

What a folder may hold stands in `cfx.diffusion.families`; what is refused, in `cfx.diffusion.pipeline_index`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cfx.diffusion.class_labels import class_of, empty_class
from cfx.diffusion.conditioned import Conditioned, multiple_of
from cfx.diffusion.ddpm import Schedule, schedule_of
from cfx.diffusion.families import Inputs
from cfx.diffusion.flow import Flow
from cfx.diffusion.flow_scheduler import read_flow
from cfx.diffusion.hub import TEXT, model_folder
from cfx.diffusion.latent_model import Autoencoder, Conditioning, LatentModel, Parts
from cfx.diffusion.lora import fuse
from cfx.diffusion.pipeline_index import Index, read_index
from cfx.diffusion.pipeline_networks import autoencoder_of, check_channels, network_of, side_of
from cfx.diffusion.pipeline_parts import quietly
from cfx.diffusion.pretrained import read_json, schedule_fields
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
        network = network_of(index, parts)
        autoencoder = autoencoder_of(index, network, parts)
    side = side_of(network, autoencoder)
    check_channels(index, network, autoencoder)
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
            f"guidance is {conditioning.guidance:g}, which leads from the negative prompt to the prompt; both are {prompt!r}; "
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
    empty = empty_class(index, network)
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


def _process(index: Index, network: Any, autoencoder: Autoencoder, side: int | None) -> Schedule | Flow:
    patch = multiple_of(network, index.family)
    tokens = None if side is None else (side // autoencoder.factor // patch) ** 2
    source = index.part("scheduler") / "scheduler_config.json"
    if (flow := read_flow(source, tokens)) is not None:
        return flow
    said, settings = schedule_fields(source), read_json(source)
    if settings.get("timestep_spacing") == "trailing" or settings["_class_name"] == "LCMScheduler":
        said["timestep_spacing"] = "trailing"  # the steps that a model of few steps was distilled at
    if said.get("variance_type") == "learned_range":  # of which diffusers leaves what is learned out, too
        del said["variance_type"]
    return schedule_of(source, said)


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
