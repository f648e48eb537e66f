"""What every door to Hugging Face's transformers shares: weights only from safetensors, no code that a folder may bring, and what
cannot be loaded is the user's to mend."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cfx.errors import UserError
from cfx.weights_file import kind_of, read_metadata

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
FILES = ("*.json", "*.safetensors")  # all that is read of a folder
SAFE: Any = {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": True}  # what it says is read


def transformers_package() -> Any:
    """The package, which is an extra. Raises ImportError with the way out."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "a folder of Hugging Face transformers needs that package; install it with: pip install 'cfx-audit[hf]'"
        ) from error
    return transformers


def check_weights(folder: Path, made_by: str) -> None:
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
            f"trust them write a folder anew with `{made_by}.from_pretrained(OLD).save_pretrained(NEW)`"
        )
    raise UserError(f"{folder} has no model.safetensors: its weights are missing; copy or download the whole folder")


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
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
def as_users(source: Path | str) -> Iterator[None]:
    """What transformers raises for what it cannot load is a UserError."""
    try:
        yield
    except (UserError, torch.OutOfMemoryError):
        raise
    except ImportError as error:
        raise ImportError(f"{source} needs a package that is missing: {_in_a_line(error)}") from error
    except (ValueError, OSError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{source} cannot be loaded: {_in_a_line(error)}") from error


def check_loaded(source: Path | str, loaded: dict[str, Any]) -> None:
    """Raises UserError for weights that are missing, too many or of another shape: transformers makes up what is missing."""
    said = {kind: sorted(map(_key, loaded.get(f"{kind}_keys", ()))) for kind in ("missing", "mismatched", "unexpected")}
    wrong = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})" for kind, names in said.items() if names
    ]
    if wrong:
        raise UserError(f"the weights in {source} are not those of its {CONFIG}: {'; '.join(wrong)}")


def _key(found: str | tuple[Any, ...]) -> str:
    """The name of a weight, with its shapes in the file and in the network where they differ."""
    return found if isinstance(found, str) else f"{found[0]}: {list(found[1])} for {list(found[2])}"


def hash_of(folder: Path) -> bytes:
    """SHA-256 of all that is read of a folder."""
    digest = hashlib.sha256()
    for file in sorted(path for pattern in FILES for path in folder.glob(pattern) if path.is_file()):
        digest.update(f"{file.name}\0".encode())
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.digest()


def _in_a_line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
