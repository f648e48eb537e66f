"""A folder as transformers' `save_pretrained` writes it: an image classifier with its preprocessing and the names of its classes.

Only what lies in the folder is read, weights only from safetensors, and no code that a folder may bring is run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cfx.checkpoint import Facts
from cfx.classifiers.processor import Array, Seen, seen_through
from cfx.errors import UserError
from cfx.weights_file import kind_of, read_metadata

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
KIND = "ForImageClassification"  # what the names of transformers' image classifiers have in common
FILES = ("*.json", "*.safetensors")  # all that is read of a folder
LOCAL: Any = {"local_files_only": True, "trust_remote_code": False}
SAFE: Any = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}  # what it says is read


class Pretrained(nn.Module):
    """(B, 3, H, W), normalised RGB, to logits (B, K)."""

    files_hash: Tensor  # 32 bytes: SHA-256 of all that is read. Equal weights with other settings are another network

    def __init__(self, network: nn.Module, bgr: bool, files_hash: bytes) -> None:
        super().__init__()
        self.network, self.bgr = network, bgr
        self.register_buffer("files_hash", torch.tensor(list(files_hash), dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W), normalised, to logits (B, K)."""
        logits: Tensor = self.network(pixel_values=x.flip(1) if self.bgr else x).logits
        return logits


def is_pretrained(path: Path) -> bool:
    """Whether this is a folder with transformers' configuration."""
    return (path / CONFIG).is_file()


def load_pretrained(folder: Path, seen_is_set: bool) -> tuple[Pretrained, Facts]:
    """The network, and facts: input_size, mean, std, crop, squeezes; classes, or attributes of a multi-label head.

    seen_is_set: input_size, mean and std are settings, so a folder without a preprocessor will do. Raises ImportError without
    transformers, UserError for a folder that is no image classifier or that lacks its preprocessor or its weights.
    """
    transformers = _transformers()
    settings = _settings(folder)
    _check_weights(folder)
    with _quiet(transformers), _as_users(folder):
        config = transformers.AutoConfig.from_pretrained(folder, **LOCAL)
        if type(config) not in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
            raise UserError(f"{folder} holds a {type(config).__name__.removesuffix('Config')}, which is no image classifier")
        network, loaded = transformers.AutoModelForImageClassification.from_pretrained(
            folder, config=config, dtype=torch.float32, **SAFE, **LOCAL
        )
        seen = _seen(folder, transformers, seen_is_set)
    _check_loaded(folder, loaded)
    return Pretrained(network, seen is not None and seen.bgr, _hash(folder)), _names(folder, settings, config) | _shown(seen)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "a folder of Hugging Face transformers needs that package; install it with: pip install 'cfx-audit[hf]'"
        ) from error
    return transformers


def _settings(folder: Path) -> dict[str, Any]:
    """config.json of an image classifier, as far as can be told without its code. Raises UserError for another."""
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{folder / CONFIG} is not valid JSON: {error}") from error
    architectures = settings.get("architectures") or [] if isinstance(settings, dict) else ["?"]
    if not all(KIND in str(name) for name in architectures):
        raise UserError(
            f"{folder} holds a {', '.join(map(str, architectures))}, and an image classifier is needed (…{KIND}): what another "
            "kind of network lacks of its head would be random"
        )
    if "quantization_config" in settings:
        raise UserError(
            f"{folder} is quantised, which gives no gradients that can be followed; save the network from before that"
        )
    if settings.get("problem_type") == "regression":
        raise UserError(f"{folder} is a regression: it answers with a number, not with classes")
    return settings


def _check_weights(folder: Path) -> None:
    """Raises UserError unless the weights are there, in safetensors."""
    files = sorted(folder.glob("model*.safetensors"))
    if files:
        for file in files:
            if kind_of(file) != "safetensors":
                raise UserError(f"{file} is not a safetensors file; copy or download it again")
            read_metadata(file)  # refuses half a file
        return
    if pickles := sorted(file.name for file in folder.glob("pytorch_model*.bin")):
        raise UserError(
            f"{folder} has its weights in {', '.join(pickles)}, pickles that can run code; only safetensors are read: where you "
            "trust them write a folder anew with `AutoModelForImageClassification.from_pretrained(OLD).save_pretrained(NEW)`"
        )
    raise UserError(f"{folder} has no model.safetensors: its weights are missing; copy or download the whole folder")


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without progress bars and advice on standard error."""
    logging = transformers.utils.logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _as_users(folder: Path) -> Iterator[None]:
    """What transformers raises for what it cannot load is a UserError."""
    try:
        yield
    except (UserError, torch.OutOfMemoryError):
        raise
    except ImportError as error:
        raise ImportError(f"{folder} needs a package that is missing: {_in_a_line(error)}") from error
    except (ValueError, OSError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{folder} cannot be loaded: {_in_a_line(error)}") from error


def _seen(folder: Path, transformers: Any, is_set: bool) -> Seen | None:
    """What the folder's preprocessor does. Raises UserError for one that is missing where it is needed."""
    if not (folder / PREPROCESSOR).is_file():
        if is_set:
            return None
        raise UserError(
            f"{folder} has no {PREPROCESSOR}, which says what its network sees: copy it there (`save_pretrained` of its image "
            "processor), or set all three of `input_size`, `mean` and `std`"
        )
    processor = transformers.AutoImageProcessor.from_pretrained(folder, **LOCAL)

    def process(image: Image.Image) -> Array:
        made = processor(image, return_tensors="np")
        if "pixel_values" not in made:
            raise UserError(f"its preprocessor gives {', '.join(made)}, not pixel_values: it is no network of images")
        return np.asarray(made["pixel_values"][0], dtype=np.float64)

    try:
        return seen_through(process)
    except UserError as error:
        if is_set:
            return None
        raise UserError(f"{folder}: {error}") from error


def _check_loaded(folder: Path, loaded: dict[str, Any]) -> None:
    """Raises UserError for weights that are missing, too many or of another shape: transformers makes up what is missing."""
    said = {kind: sorted(map(_key, loaded.get(f"{kind}_keys", ()))) for kind in ("missing", "mismatched", "unexpected")}
    wrong = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})" for kind, names in said.items() if names
    ]
    if wrong:
        raise UserError(f"the weights in {folder} are not those of its {CONFIG}: {'; '.join(wrong)}")


def _key(found: str | tuple[Any, ...]) -> str:
    """The name of a weight, with its shapes in the file and in the network where they differ."""
    return found if isinstance(found, str) else f"{found[0]}: {list(found[1])} for {list(found[2])}"


def _names(folder: Path, settings: dict[str, Any], config: Any) -> Facts:
    """Names by id2label: of classes, or of the labels of a multi-label head."""
    names = [str(config.id2label[i]) for i in range(len(config.id2label))]
    if settings.get("problem_type") == "multi_label_classification":
        return {"attributes": names}
    if len(names) < 2:
        return {}
    return {"classes": [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names)]}


def _shown(seen: Seen | None) -> Facts:
    if seen is None:
        return {}
    return {
        "input_size": seen.input_size,
        "mean": seen.mean,
        "std": seen.std,
        "crop": seen.crop,
        "squeezes": seen.squeezes,
    }


def _hash(folder: Path) -> bytes:
    digest = hashlib.sha256()
    for file in sorted(path for pattern in FILES for path in folder.glob(pattern) if path.is_file()):
        digest.update(f"{file.name}\0".encode())
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.digest()


def _in_a_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
