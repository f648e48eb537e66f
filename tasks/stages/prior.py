"""The prior of an audit: a trained denoiser, or one to be trained on the spot from the audited images."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from cfx.diffusion.latent_prior import is_generator
from cfx.diffusion.pretrained import prior_files
from cfx.diffusion.training import PriorTraining, train_prior
from tasks.config import PriorConfig
from tasks.training.batches import batches_of
from warehouse.facts.storage import cache_of, write_whole

BUNDLED = "portraits:"
_log = logging.getLogger("cfx.stages")


def prior_folder(root: Path, config: PriorConfig, data_fingerprint: str) -> Path:
    """Where the prior is, or will be once trained."""
    if config.path is not None and config.path.startswith(BUNDLED):
        return Path(str(files("cfx") / "weights" / "portraits" / config.path.removeprefix(BUNDLED)))
    if config.path is not None:
        return Path(config.path)
    assert config.train is not None
    recipe = hashlib.sha256(f"{data_fingerprint}{config.train.model_dump_json()}".encode()).hexdigest()[:16]
    return root / "priors" / recipe


def prior_fingerprint(root: Path, config: PriorConfig, data_fingerprint: str) -> str:
    """SHA-256 of the weights, or of the recipe and the data of weights that are to be trained; of a generator also of what it is
    asked to draw."""
    folder = prior_folder(root, config, data_fingerprint)
    if config.train is not None:
        return hashlib.sha256(folder.name.encode()).hexdigest()
    if is_generator(folder):
        from cfx.diffusion.pipelines import pipeline_fingerprint  # the extra `sd`

        files_print = pipeline_fingerprint(str(folder), config.revision, config.parts)
        return hashlib.sha256(f"{files_print}{config.conditioning.model_dump_json()}".encode()).hexdigest()
    return fingerprint_folder(folder)


def fingerprint_folder(folder: Path) -> str:
    """SHA-256 over the names and contents of a prior's files. Raises as `prior_files` does."""
    digest = hashlib.sha256()
    for path in sorted(set(prior_files(folder))):
        digest.update(f"{path.relative_to(folder)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def ensure_prior(folder: Path, config: PriorConfig, images: Callable[[], Tensor], device: str) -> Path:
    """Train the prior unless it is there; after a kill training goes on from its checkpoint.

    Progress goes to <folder>/progress.json as {"step", "steps", "loss", "seconds"}. A prior for an object store is trained
    beside its copy in this machine's cache and uploaded when it is done, its schedule last: where that is, all is.
    """
    if config.train is None or (folder / "scheduler" / "scheduler_config.json").is_file():
        return folder
    if not isinstance(folder, Path):
        here = cache_of(folder).with_suffix(".training")
        ensure_prior(here, config, images, device)
        for path in sorted(here.glob("*/*"), key=lambda path: path.parent.name == "scheduler"):
            write_whole(folder, folder / path.relative_to(here).as_posix(), path.read_bytes())
        return folder
    started, written, x = time.monotonic(), [0.0], images()
    training, x = _at_most(config.train, x)

    def report(step: int, loss: float) -> None:
        now = time.monotonic()
        if now - written[0] > 1 or step == training.steps:
            written[0] = now
            state = {"step": step, "steps": training.steps, "loss": loss, "seconds": now - started}
            (folder / "progress.json").write_text(json.dumps(state))

    return train_prior(batches_of(x, training), training, folder, report, device, _log.info)


def _at_most(training: PriorTraining, images: Tensor) -> tuple[PriorTraining, Tensor]:
    """How the prior is trained, and the images (N, 3, H, W) uint8 at the size that it draws."""
    height, width = images.shape[-2:]
    drawn = training.drawn_size(height, width)
    if drawn is not None:
        images = torch.cat([resize(part, list(drawn), antialias=True) for part in images.split(256)])
    return training.model_copy(update={"size": min(training.size, max(height, width))}), images
