"""Files of weights: read without running anything that the file says, unwrapped, and fitted strictly."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict
from uuid import uuid4

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from cfx.errors import UserError

WRAPPERS = ("state_dict", "model_state_dict", "model", "ema")  # names under which training scripts keep the weights
ARRAYS = {  # all that a pickled NumPy array needs
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class Facts(TypedDict, total=False):
    """What cfx writes about a network beside its weights, all JSON values; a hub gives some of them, too."""

    module: str  # package.module:factory
    kwargs: dict[str, object]  # the factory's arguments
    classes: list[str]  # of a classifier, in the order of the logits
    attributes: list[str]  # of an oracle
    input_size: int | None  # side, pixels
    mean: tuple[float, float, float]  # of the normalisation, on [0, 1]
    std: tuple[float, float, float]
    training: dict[str, object]  # its settings
    accuracy: Any  # on what was held out: a number, or for an oracle one by attribute
    robust_accuracy: float  # likewise, under attack
    width: int  # of autoencoders, channels
    code: int


def read_state_dict(path: Path, allow_pickle: bool = False) -> dict[str, Tensor]:
    """The weights in a .safetensors file, a .pkl file of NumPy arrays, or a torch file of any other ending, by name.

    Unwraps WRAPPERS, joins the state dicts of several parts ({"features": {...}, "head": {...}}) as "features.…", "head.…", and
    strips the "module." of DataParallel. Raises UserError for a file that holds no weights, or that needs unpickling, which
    runs code, unless `allow_pickle`; FileNotFoundError if there is no file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; check `weights`, or train a network with `cfx train`")
    readers = {".safetensors": _read_safetensors, ".pkl": _read_arrays}
    content = readers[path.suffix](path) if path.suffix in readers else _read_torch(path, allow_pickle)
    state = _flat(_unwrapped(content))
    wrong = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if wrong or not state:
        found = f"{wrong[0]!r} is a {type(state[wrong[0]]).__name__}" if wrong else "it is empty"
        raise UserError(f"{path} holds no state dict: {found}; save network.state_dict(), bare or under {', '.join(WRAPPERS)}")
    return _without_wrapper_prefix({name: value for name, value in state.items() if isinstance(value, Tensor)})


def read_facts(path: Path) -> Facts:
    """What cfx wrote about a network beside its weights (`save_network`); empty for a file from elsewhere."""
    if path.suffix != ".safetensors":
        return {}
    with safetensors.safe_open(path, framework="pt") as file:
        facts: Facts = json.loads((file.metadata() or {}).get("cfx", "{}"))
    return facts if isinstance(facts, dict) else {}


def save_network(path: Path, network: nn.Module, facts: Facts) -> Path:
    """Write weights and facts (JSON values) to a .safetensors file, whole or not at all, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    temporary.write_bytes(safetensors.torch.save(state, metadata={"cfx": json.dumps(facts, sort_keys=True)}))
    os.replace(temporary, path)
    return path


def fit(network: nn.Module, state: Mapping[str, Tensor], source: Path, module: str) -> None:
    """Load every weight into the network. Raises UserError naming each key that is missing, unexpected or misshapen."""
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:  # torch names every key, and both shapes
        raise UserError(f"the weights in {source} are not those of {module}; check `module` and `kwargs`. {error}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file: {error}") from error


class _ArraysOnly(pickle.Unpickler):
    """Unpickles dicts of NumPy arrays, also those written by Python 2, and imports nothing else."""

    def find_class(self, module: str, name: str) -> object:
        module = module.replace("numpy.core", "numpy._core")  # where it is since NumPy 2
        if (module, name) not in ARRAYS:
            raise pickle.UnpicklingError(f"it needs {module}.{name}")
        return super().find_class(module, name)


def _read_arrays(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError) as error:
        raise UserError(f"{path} is not a pickled dict of NumPy arrays ({_first_line(error)})") from error
    if not isinstance(content, Mapping) or not all(isinstance(value, np.ndarray) for value in content.values()):
        raise UserError(f"{path} is not a pickled dict of NumPy arrays")
    return {str(name): torch.from_numpy(value) for name, value in content.items()}


def _read_torch(path: Path, allow_pickle: bool) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        if allow_pickle:
            return torch.load(path, map_location="cpu", weights_only=False)
        raise UserError(
            f"{path} holds more than weights, or is broken ({_first_line(error)}). Unpickling would run whatever code it holds: "
            "if you trust its maker set `allow_pickle: true`; else have its state_dict saved as .safetensors"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _unwrapped(content: object) -> Mapping[str, object]:
    if isinstance(content, nn.Module):
        return content.state_dict()
    if not isinstance(content, Mapping):
        return {"the file's content": content}
    inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping | nn.Module)), None)
    return content if inner is None else _unwrapped(inner)


def _flat(state: Mapping[str, object]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in state.items():
        parts = _flat(value) if isinstance(value, Mapping) else {"": value}
        flat |= {f"{name}.{part}" if part else str(name): leaf for part, leaf in parts.items()}
    return flat


def _without_wrapper_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Strip "module." where every weight has it (DataParallel; AveragedModel, which also counts its averages)."""
    weights = {name: value for name, value in state.items() if name != "n_averaged"}
    if all(name.startswith("module.") for name in weights):
        return {name.removeprefix("module."): value for name, value in weights.items()}
    return state
