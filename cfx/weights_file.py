"""Files of weights, known by their content and not by their names, and read without running anything that they hold."""

from __future__ import annotations

import pickle  # nosec B403 # data alone, but for `allow_pickle`
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from cfx.allowed import check_pickle
from cfx.errors import UserError

Kind = Literal["safetensors", "torch", "script", "export", "pickle"]
ARRAYS = {  # all that a pickled NumPy array needs
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
BEFORE_ZIP = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that torch.save began with until 1.6, pickled
LONGEST_HEADER = 100_000_000  # bytes, of a safetensors file
LFS = b"version https://git-lfs"
FOREIGN = {  # how files begin that are not weights; what they are and the way out
    LFS: "is a Git LFS pointer, not the file that it stands for; fetch that with `git lfs pull`",
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
    b"BZh": "is compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "is compressed by xz; unpack it first",
    b"7z\xbc\xaf": "is a 7-Zip archive; unpack it first",
    b"Rar!": "is a RAR archive; unpack it first",
    b"\x89HDF": "is an HDF5 file, as Keras writes; only weights of torch can be read, or the network as `access: onnx`",
    b"\x93NUMPY": "is one NumPy array, not a network's weights",
}
PROGRAMS = {"script": "TorchScript", "export": "torch.export"}


def read_content(path: Path, allow_pickle: bool = False) -> object:
    """What was saved in a file of weights: a mapping as a rule. Of a program, its weights.

    Raises FileNotFoundError without the file, and UserError for a file that is something else or broken, or that only running
    code can read, unless `allow_pickle`.
    """
    match kind_of(path):
        case "safetensors":
            return _read_safetensors(path)
        case "pickle":
            return _read_pickle(path, allow_pickle)
        case "torch":
            return _read_torch(path, allow_pickle)
        case _:
            return read_program(path, allow_pickle).state_dict()


def read_program(path: Path, allow_pickle: bool = False) -> nn.Module:
    """The network in a file of torch.jit.save or torch.export.save, which holds its code. Raises UserError unless `allow_pickle`,
    and for a file that is no program or does not load."""
    kind = kind_of(path)
    if kind not in PROGRAMS:
        raise UserError(f"{path} is no program of TorchScript or torch.export")
    if not allow_pickle:
        raise UserError(
            f"{path} is a program ({PROGRAMS[kind]}): it would run whatever its maker wrote. If you trust them set "
            "`allow_pickle: true`; else have the network's state_dict saved as .safetensors"
        )
    check_pickle(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch.jit is no longer developed, but its files are about
            return torch.jit.load(path, map_location="cpu") if kind == "script" else torch.export.load(path).module()
    except Exception as error:  # bytes from elsewhere can raise anything
        raise UserError(f"{path} is a program ({PROGRAMS[kind]}) that does not load: {_in_a_line(error)}") from error


def kind_of(path: Path) -> Kind:
    """Which kind of file of weights this is, by its content. Raises FileNotFoundError, or UserError saying what it is instead."""
    if path.is_dir():
        inside = ", ".join(sorted(file.name for file in path.iterdir())[:5]) or "nothing"
        raise UserError(
            f"{path} is a folder, and `weights` is a file, or a folder as Hugging Face's transformers writes it (config.json); "
            f"in it: {inside}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; check `weights`, or train a network with `cfx train`")
    with path.open("rb") as file:
        head = file.read(512)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < LONGEST_HEADER:
        return "safetensors"
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    if head.startswith(b"\x80"):
        return "torch" if head.startswith(BEFORE_ZIP) else "pickle"
    raise UserError(f"{path} {_foreign(head, path.suffix)}")


def _kind_of_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as file:
            names = {name.partition("/")[2] for name in file.namelist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"{path} is truncated or broken: it begins like a file of torch.save but has no end ({path.stat().st_size:,} bytes); "
            "copy or download it again"
        ) from error
    if "data.pkl" in names:
        return "script" if "constants.pkl" in names else "torch"
    if names & {"archive_format", "serialized_exported_program.json"}:
        return "export"
    raise UserError(f"{path} is a zip archive, but not one of torch.save; if the weights are inside unpack it")


def _foreign(head: bytes, suffix: str) -> str:
    """What a file is that holds no weights, by its first bytes."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head:
        return "is empty (0 bytes); copy or download it again"
    if known := next((words for begins, words in FOREIGN.items() if head.startswith(begins)), None):
        return known
    if text[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, saved in place of the file; download the file itself"
    if head[257:262] == b"ustar":
        return "is a tar archive; unpack it first"
    if suffix == ".onnx":
        return "is an ONNX file; audit it with `access: onnx`"
    if text[:1] in (b"{", b"["):
        return f"is JSON text ({text[:60].decode(errors='replace')!r} …), not weights"
    return f"is not a file of weights: it begins with {head[:12]!r}; .safetensors or files of torch.save can be read"


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says beside its tensors; nothing for other kinds of files. Raises as `read_content` does."""
    if kind_of(path) != "safetensors":
        return {}
    with _whole(path), safetensors.safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with _whole(path):
        return safetensors.torch.load_file(path)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except (safetensors.SafetensorError, ValueError) as error:
        raise UserError(f"{path} is not a whole safetensors file: truncated or broken ({_in_a_line(error)})") from error


class _ArraysOnly(pickle.Unpickler):
    """Unpickles dicts of NumPy arrays, also those written by Python 2, and imports nothing else."""

    def find_class(self, module: str, name: str) -> object:
        module = module.replace("numpy.core", "numpy._core")  # where it is since NumPy 2
        if (module, name) not in ARRAYS:
            raise pickle.UnpicklingError(f"it needs {module}.{name}")
        return super().find_class(module, name)


def _read_pickle(path: Path, allow_pickle: bool) -> object:
    """What pickle.dump wrote, not torch.save."""
    try:
        with path.open("rb") as file:
            return _arrays(_ArraysOnly(file, encoding="latin1").load())
    except Exception as error:  # bytes from elsewhere can raise anything
        if allow_pickle:
            return _unpickled(path)
        raise UserError(
            f"{path} is not a pickled dict of NumPy arrays ({_in_a_line(error)}); use torch.save or .safetensors, "
            "or set `allow_pickle: true` if you trust its maker, which runs whatever code it holds"
        ) from error


def _arrays(content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not all(isinstance(value, np.ndarray) for value in content.values()):
        raise UserError(f"it holds a {type(content).__name__}")
    return {str(name): torch.from_numpy(value) for name, value in content.items()}


def _read_torch(path: Path, allow_pickle: bool) -> object:
    try:
        with path.open("rb") as file:  # of a path torch would believe the ending
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes from elsewhere can raise anything
        needed = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
        if needed is None:
            raise UserError(f"{path} is truncated or broken ({_in_a_line(error)}); copy or download it again") from error
        if allow_pickle:
            return _unpickled(path)
        raise UserError(
            f"{path} holds more than weights: a {needed[1]}. Unpickling would run whatever code it holds: if you trust its maker "
            "set `allow_pickle: true`; else have its state_dict saved as .safetensors"
        ) from error


def _unpickled(path: Path) -> object:
    check_pickle(path)
    try:
        with path.open("rb") as file:
            if kind_of(path) == "torch":
                return torch.load(file, map_location="cpu", weights_only=False)  # nosec B614 # `allow_pickle`
            return pickle.load(file)  # nosec B301 # `allow_pickle`
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{path} can only be unpickled where the code is that it was saved with ({_in_a_line(error)}); put that beside the "
            "YAML file, or save network.state_dict()"
        ) from error
    except Exception as error:
        raise UserError(f"{path} is truncated or broken ({_in_a_line(error)})") from error


def _in_a_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
