"""Networks in memory: each is loaded once, shared by the shards that work side by side, and given back when a run ends.

What is kept is known by all that it depends on, the content of its files included: a weights file that is overwritten is
another network.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import torch
from torch import nn

from cfx.attributes.named_edits import NamedEdits
from cfx.attributes.oracle import Oracle, load_oracle
from cfx.attributes.words import AnyOracle, WordsOracleConfig, load_words
from cfx.classifiers import AnyClassifier, BlackBox, ClassifierConfig, load_classifier
from cfx.classifiers.network import Network, weights_path
from cfx.diffusion.between_prompts import BetweenPrompts
from cfx.diffusion.ddpm import DDPM, load_ddpm
from cfx.diffusion.latent import LatentDiffusion
from cfx.diffusion.latent_model import LatentModel
from cfx.diffusion.latent_prior import LatentPrior, is_generator
from cfx.diffusion.runtimes import Runtime, computed
from cfx.diffusion.text_models import load_text_model
from cfx.errors import UserError
from cfx.perceptual import LPIPS, Perceptual, load_lpips, load_perceptual
from cfx.types import Classifier
from cfx.user_code import sources_of
from tasks.black_boxes import connect
from tasks.config import PriorConfig
from warehouse.facts.storage import fetched, machine_cache

T = TypeVar("T")

_KEPT: dict[Hashable, Any] = {}
_LOADING = RLock()  # an encoder may load the oracle


def kept(key: Hashable, load: Callable[[], T]) -> T:
    """What was loaded under this key, or is now."""
    with _LOADING:
        if key not in _KEPT:
            _KEPT[key] = load()
        found: T = _KEPT[key]
        return found


def give_back() -> None:
    """Forget every network; whoever still holds one keeps it."""
    with _LOADING:
        _KEPT.clear()


def state_of(path: Path) -> tuple[str, int, int]:
    """What tells a file from what it was: its name, size and time of writing; of a folder, of the file written last. What is not
    there has neither: who loads it says where it is to be had."""
    if not path.exists():
        return str(path), 0, 0
    if path.is_dir():
        inside = [file.stat() for file in path.iterdir() if file.is_file()]
        return str(path), sum(stat.st_size for stat in inside), max((stat.st_mtime_ns for stat in inside), default=0)
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns


def classifier_for(config: AnyClassifier, device: str, answers: Path | None = None) -> Classifier:
    """The classifier of this configuration, loaded anew. `answers`: where a run's black boxes keep their ledgers."""
    return load_classifier(config, device) if isinstance(config, ClassifierConfig) else connect(config, device, answers)


def oracle_for(config: AnyOracle, device: str) -> Oracle:
    """The oracle of this configuration, loaded anew. One by words has its calibration in its configuration."""
    return load_words(config, device) if isinstance(config, WordsOracleConfig) else load_oracle(config, device)


def runtime_of(config: PriorConfig, folder: Path, device: str) -> Runtime:
    """What computes this prior: by `auto` ONNX Runtime on a CPU, in float32 and of a prior of images, else torch."""
    if config.runtime != "auto":
        return config.runtime
    of_images = config.train is not None or not is_generator(folder)
    return "onnxruntime" if (device, config.precision) == ("cpu", "float32") and of_images else "torch"


def denoiser_for(folder: Path, device: str, config: PriorConfig | None = None) -> DDPM:
    """The prior in this folder, local or of an object store, loaded anew; or a generator, in memory once.

    config: what computes it, in which precision, and what a generator is asked to draw; without one, torch, in float32, and any
    image. What torch.compile makes is kept in this machine's cache, or where TORCHINDUCTOR_CACHE_DIR says. Raises UserError for
    settings of a generator beside a prior that is none, and for a runtime that cannot compute a generator.
    """
    config = config or PriorConfig(path=str(folder))
    runtime = runtime_of(config, folder, device)
    if runtime == "torch.compile":
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(machine_cache() / "torch.compile"))
    if config.train is None and is_generator(folder):
        if runtime == "onnxruntime":
            raise UserError(f"runtime: {runtime} computes priors of images, and {folder} draws latents; leave `runtime` out")
        model = generator_for(folder, device, config)
        model = replace(model, network=computed(model.network, runtime, config.precision))
        return LatentPrior(model, class_prompts=config.class_prompts)
    if said := config.of_generators:
        raise UserError(f"{', '.join(said)}: {folder} is a prior of images, which only draws; leave it out, or name a generator")
    prior = load_ddpm(fetched(folder))
    prior.network.to(device)
    network = computed(prior.network, runtime, config.precision)
    return prior if network is prior.network else DDPM(network, prior.schedule, prior.channels)


def prior_for(folder: Path, print_of_prior: str | None, device: str, config: PriorConfig) -> DDPM:
    """The prior in this folder, whose fingerprint is known, loaded once."""
    key = "prior", str(folder), print_of_prior, device, config.model_dump_json()
    return kept(key, lambda: denoiser_for(folder, device, config))


def generator_for(folder: Path, device: str, config: PriorConfig) -> LatentModel:
    """The generator of this folder or hub's id, asked to draw what the configuration says."""
    from cfx.diffusion.pipelines import load_latent_model  # transformers are the extra `sd`

    files = tuple(state_of(path) for path in sorted(folder.rglob("*")) if path.is_file())
    key = "generator", str(folder), files, config.model_dump_json(), device
    return kept(key, lambda: load_latent_model(str(folder), config.revision, config.conditioning, device, config.parts))


def robust_for(config: ClassifierConfig, device: str) -> Classifier:
    """The robust classifier of DVCE's cone."""
    state = state_of(weights_path(config.weights)) if config.weights is not None else None
    return kept(("robust", config.model_dump_json(), state, device), lambda: load_classifier(config, device))


def perceptual_for(vgg19: str | None, device: str) -> Perceptual | None:
    """VGG19's distance, if a file of its weights is given."""
    if vgg19 is None:
        return None
    return kept(("vgg19", *state_of(Path(vgg19)), device), lambda: load_perceptual(Path(vgg19), device))


def lpips_for(vgg16: str | None, device: str) -> LPIPS | None:
    """LPIPS, if a file of VGG16's weights is given."""
    if vgg16 is None:
        return None
    return kept(("vgg16", *state_of(Path(vgg16)), device), lambda: load_lpips(Path(vgg16), device))


def text_model_for(
    named: NamedEdits, device: str, prior: PriorConfig | None = None, folder: Path | None = None
) -> LatentDiffusion | BetweenPrompts:
    """What edits by words: the model that they name, or else the audit's prior, which lies in this folder.

    Raises UserError for a prior that reads no prompts, and as `load_text_model`.
    """
    if (source := named.model) is not None:
        files = tuple(state_of(path) for path in sorted(Path(source).rglob("*")) if path.is_file())
        key = "text model", source, named.revision, files, device
        return kept(key, lambda: load_text_model(source, named.revision, device))
    way_out = "name a text-to-image model (`named.model`), such as `portraits:text`"
    if prior is None or folder is None:
        raise UserError(f"named: there is no prior whose prompts could be edited; {way_out}")
    if prior.train is not None or not is_generator(folder):
        raise UserError(f"named: the prior {folder} draws images and reads no prompts; {way_out}")
    model = generator_for(folder, device, prior)
    if model.text is None:
        raise UserError(f"named: the prior {folder} reads no prompts; {way_out}")
    return BetweenPrompts(model)


def fingerprint_named(named: NamedEdits, model: LatentDiffusion | BetweenPrompts) -> str | None:
    """SHA-256 of the model that edits by words; None of the audit's prior, which has its own."""
    if isinstance(model, LatentDiffusion):
        return fingerprint_latent(model)
    if named.model is None:
        return None
    from cfx.diffusion.pipelines import pipeline_fingerprint  # transformers are the extra `sd`

    return pipeline_fingerprint(named.model, named.revision)


def fingerprint_latent(model: LatentDiffusion) -> str:
    """SHA-256 of all that a text-to-image model answers with: its networks, its vocabulary and its schedule."""
    networks = "".join(fingerprint(part) for part in (model.unet, model.text_encoder, model.vae))
    known = f"{networks}{model.prediction}{sorted(model.tokenizer.get_vocab().items())}{model.alphas_cumprod.tolist()}"
    return hashlib.sha256(known.encode()).hexdigest()


def fingerprint_files(path: Path) -> str:
    """SHA-256 of a file, or of all files in a folder with their names."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(f"{file.relative_to(path)}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def fingerprint(network: nn.Module | Classifier) -> str:
    """SHA-256 over the names and values of a network's parameters and buffers, wherever they were read from, and over the sources
    of the user's module that makes it.

    Of a black box: of its file, its source, or what its server says of it; an endpoint that changes unannounced is not seen.
    """
    if isinstance(network, BlackBox):
        return network.fingerprint
    assert isinstance(network, nn.Module)
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    for part in network.modules():
        if isinstance(part, Network) and part.users is not None:  # the same weights answer otherwise after a change of `forward`
            digest.update(sources_of(sys.modules[part.users.partition(":")[0]]).encode())
    return digest.hexdigest()
