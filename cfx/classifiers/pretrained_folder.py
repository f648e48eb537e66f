"""A folder as transformers' `save_pretrained` writes it: an image classifier with its preprocessing and the names of its classes.

Only what lies in the folder is read, weights only from safetensors, and no code that a folder may bring is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic_core import from_json
from torch import Tensor, nn

from cfx.checkpoint import Facts
from cfx.classifiers.hugging_face import (
    CONFIG,
    PREPROCESSOR,
    SAFE,
    as_users,
    check_loaded,
    check_weights,
    hash_of,
    quiet,
    transformers_package,
)
from cfx.classifiers.processor import Array, Seen, seen_through
from cfx.errors import UserError

KIND = "ForImageClassification"  # what the names of transformers' image classifiers have in common
LOCAL: Any = {"local_files_only": True, "trust_remote_code": False}


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
    transformers = transformers_package()
    settings = _settings(folder)
    check_weights(folder, "AutoModelForImageClassification")
    with quiet(transformers), as_users(folder):
        config = transformers.AutoConfig.from_pretrained(folder, **LOCAL)
        if type(config) not in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
            raise UserError(f"{folder} holds a {type(config).__name__.removesuffix('Config')}, which is no image classifier")
        network, loaded = transformers.AutoModelForImageClassification.from_pretrained(
            folder, config=config, dtype=torch.float32, **SAFE, **LOCAL
        )
        seen = _seen(folder, transformers, seen_is_set)
    check_loaded(folder, loaded)
    return Pretrained(network, seen is not None and seen.bgr, hash_of(folder)), _names(folder, settings, config) | _shown(seen)


def _settings(folder: Path) -> dict[str, Any]:
    """config.json of an image classifier, as far as can be told without its code. Raises UserError for another."""
    try:
        settings = from_json((folder / CONFIG).read_bytes())
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
