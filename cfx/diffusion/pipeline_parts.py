"""Parts of a pipeline's folder, read strictly: safetensors only, every weight there and finite, no code of the folder run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cfx.diffusion.pretrained import NEUTRAL, check_weights, read_json
from cfx.errors import UserError
from cfx.weights_file import FOREIGN, LFS

OURS = {"Folded": "cfx.diffusion.folded"}  # a part that is not diffusers'
LEGACY = "Transformer2DModel"  # what DiT and PixArt were called, with fields that their own classes lack
VARIANT = re.compile(r"\.(fp16|bf16)\b")
SHARD = re.compile(r"-\d{5}-of-\d{5}")


def read_network(folder: Path, name: str) -> nn.Module:
    """A part of diffusers' (or `Folded`) from its folder, float32, frozen.

    Raises FileNotFoundError without config or weights, UserError for weights that are no safetensors, do not fit or are not
    finite, and for a config that this diffusers does not understand.
    """
    import diffusers

    config = read_json(_there(folder / "config.json"))
    if name in OURS:
        from cfx.diffusion.folded import Folded as kind
    else:
        kind = getattr(diffusers, name)
    if config.get("_class_name") != LEGACY:
        _check_fields(folder, config, kind, name)
    network, found = _loaded(kind, folder, torch_dtype=torch.float32, low_cpu_mem_usage=False)
    check_weights(network, found, str(folder))
    return network.eval().requires_grad_(False)


def read_text_encoder(folder: Path, name: str) -> nn.Module:
    """A text encoder of transformers' from its folder, float32, frozen. Raises as `read_network` does."""
    import transformers

    kind = getattr(transformers, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, transformers.PreTrainedModel)):
        raise UserError(f"{folder}: {name!r} is no model of transformers {transformers.__version__}; update transformers")
    _there(folder / "config.json")
    network, found = _loaded(kind, folder, dtype=torch.float32)
    check_weights(network, {**found, "unexpected_keys": ()}, str(folder))  # old files hold positions that are computed now
    return network.eval().requires_grad_(False)


def read_tokenizer(folder: Path, name: str) -> Any:
    """A tokenizer of transformers' from its folder. Raises FileNotFoundError, or UserError for one that cannot be read."""
    import transformers

    kind = getattr(transformers, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, transformers.PreTrainedTokenizerBase)):
        raise UserError(f"{folder}: {name!r} is no tokenizer of transformers {transformers.__version__}; update transformers")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing; copy it there, or download the model again")
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{folder} cannot be read as a {name}: {_first_line(error)}") from error


def _loaded(kind: Any, folder: Path, **more: Any) -> tuple[Any, Mapping[str, Any]]:
    variant = _variant(folder)
    try:
        network, found = kind.from_pretrained(
            folder, variant=variant, use_safetensors=True, local_files_only=True, output_loading_info=True, **more
        )
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"{folder} cannot be read as a {kind.__name__}: {_first_line(error)}") from error
    if misshapen := [str(key) for key in found.get("mismatched_keys", ())]:
        raise UserError(f"{folder}: {'; '.join(misshapen)} have another shape than config.json says; the folder is of two models")
    return network, found


def _variant(folder: Path) -> str | None:
    """Which of a part's files to read: whole ones, or else those in half precision."""
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        others = sorted(file.name for end in ("bin", "ckpt", "pt", "msgpack", "h5") for file in folder.glob(f"*.{end}"))
        if not others:
            raise FileNotFoundError(f"{folder} holds no .safetensors; copy its weights there, or download the model again")
        raise UserError(
            f"{folder} holds {', '.join(others[:3])}, but no .safetensors, and such files can run code when they are read; if "
            "you trust their maker convert the folder: diffusers.DiffusionPipeline.from_pretrained(FOLDER).save_pretrained(NEW)"
        )
    for file in found:
        with file.open("rb") as opened:
            if opened.read(40).startswith(LFS):
                raise UserError(f"{file} {FOREIGN[LFS]}")
    if any(not VARIANT.search(SHARD.sub("", file.name)) for file in found):
        return None
    return next(match[1] for file in found if (match := VARIANT.search(SHARD.sub("", file.name))))


def _check_fields(folder: Path, config: Mapping[str, Any], kind: Any, name: str) -> None:
    said = config.get("_class_name", name)
    if said != name:
        raise UserError(f"{folder} is a {said}, where a {name} is needed")
    if "quantization_config" in config:
        raise UserError(f"{folder}: its weights are quantised, which is not supported; give the model before quantisation")
    known = inspect.signature(kind.__init__).parameters
    for field, value in config.items():
        if not (field in known or field.startswith("_") or value in NEUTRAL):
            raise UserError(f"{folder}: {field} is {value!r}, which {name} of this diffusers does not know; update diffusers")


def _there(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; copy it there, or download the model again")
    return file


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def quietly() -> Iterator[None]:
    """Without the libraries' bars over parts and weights, and their remarks; downloads still show."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    before = [(logging, logging.get_verbosity()) for logging in (of_diffusers, of_transformers)]
    for logging, _ in before:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging, level in before:
            logging.set_verbosity(level)
            logging.enable_progress_bar()
