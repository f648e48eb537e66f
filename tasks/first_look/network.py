"""The network that a user gives, looked at: which kind of file it is, which network, how its outputs are called."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cfx.checkpoint import read_facts, read_state_dict
from cfx.classifiers.class_names import saved_names
from cfx.classifiers.onnx import shape_of
from cfx.classifiers.pretrained_folder import is_pretrained
from cfx.errors import UserError
from cfx.weights_file import PROGRAMS, kind_of, read_content
from tasks.first_look.architecture import recognise

HUBS = ("torchvision:", "timm:")
SIZES = ("input_size", "image_size", "img_size", "imgsz", "resolution")  # what people call it in a checkpoint


@dataclass(frozen=True)
class Given:
    """What the user gave. home: the folder of the settings, which modules are beside and paths are relative to."""

    model: str
    home: Path
    weights: Path | None = None
    allow_pickle: bool = False

    def named(self, path: Path) -> str:
        """A path as the settings have it."""
        if str(path).startswith("portraits:"):
            return str(path)
        near = os.path.relpath(path.resolve(), self.home.resolve())
        return near if not near.startswith(os.path.join("..", "..", "..")) else str(path.resolve())


@dataclass(frozen=True)
class Source:
    """Where the network comes from. settings: of `classifier`, as far as they follow from the file."""

    kind: str
    architecture: str
    settings: dict[str, Any]
    classes: tuple[str, ...] = ()  # as the file has them
    outputs: int | None = None
    input_size: int | None = None  # as the file has it
    notes: tuple[str, ...] = field(default=())


def source_of(given: Given) -> Source:
    """What the user's file, folder or name stands for. Raises UserError for what cannot be audited, with the way out."""
    model = given.model
    if model.startswith("portraits:"):
        return Source("bundled", "cfx's ConvNet", {"weights": model})
    if ":" in model and not Path(model).exists():
        return _named(given)
    path = Path(model)
    if not path.exists():
        raise UserError(
            f"there is no file {path}; give a file of weights, a folder of Hugging Face, an .onnx file, or my_net.py:Net"
        )
    if path.is_dir():
        if not is_pretrained(path):
            kind_of(path)
        return Source("transformers", "of a folder of Hugging Face", {"weights": given.named(path)})
    if path.suffix.lower() == ".onnx":
        return _onnx(given, path)
    return _weights(given, path)


def _named(given: Given) -> Source:
    """`torchvision:NAME`, `timm:NAME`, `my_net.py:Net` or `package.module:make`, with a file of weights."""
    where, _, name = given.model.rpartition(":")
    if where.endswith(".py"):
        path = Path(where).resolve()
        if not path.is_file():
            raise UserError(f"there is no file {where}; give the .py file of your network and its class, my_net.py:Net")
        if not path.is_relative_to(given.home.resolve()):
            raise UserError(
                f"{where} does not lie beside {given.home}, where its settings would be; use --out to put them beside it"
            )
        where = ".".join(path.relative_to(given.home.resolve()).with_suffix("").parts)
    if given.weights is None:
        raise UserError(f"{given.model} makes a network without weights; give the file of them, --weights model.pt")
    hub = given.model.startswith(HUBS)
    settings = {"module": f"{where}:{name}", "weights": given.named(given.weights)} | _pickle(given)
    content = read_content(given.weights, given.allow_pickle)
    kind = where if hub else "own"
    return Source(kind, given.model, settings, tuple(saved_names(content)), input_size=_size(content))


def _pickle(given: Given) -> dict[str, Any]:
    return {"allow_pickle": True} if given.allow_pickle else {}


def _onnx(given: Given, path: Path) -> Source:
    shape = shape_of(path)
    if shape.channels not in (1, 3, None):
        raise UserError(f"{path} takes images of {shape.channels} channels; only RGB and grey ones can be shown")
    settings = {"access": "onnx", "weights": given.named(path)}
    names = _names_in(shape.names.get("names") or shape.names.get("classes") or "")
    sides = [side for side in shape.sides if side is not None]
    return Source("onnx", "an ONNX file", settings, names, shape.outputs, min(sides) if sides else None)


def _names_in(text: str) -> tuple[str, ...]:
    """Names of classes in an ONNX file's metadata: JSON or Python, a list or by number."""
    for read in (json.loads, ast.literal_eval):
        try:
            return tuple(saved_names({"classes": read(text)}))
        except (ValueError, SyntaxError):
            continue
    return ()


def _weights(given: Given, path: Path) -> Source:
    kind, settings = kind_of(path), {"weights": given.named(path)}
    if kind in PROGRAMS:
        if not given.allow_pickle:
            raise UserError(
                f"{path} is a program ({PROGRAMS[kind]}), which runs whatever its maker wrote. If you trust them: "
                "--allow-pickle; else save the network's state_dict"
            )
        return Source(PROGRAMS[kind], "inside the file", settings | {"allow_pickle": True})
    if kind == "safetensors" and "module" in (facts := read_facts(path)):
        return Source("cfx", str(facts["module"]), settings, tuple(facts.get("classes", ())))
    try:
        content = read_content(path, given.allow_pickle)
    except UserError as error:
        hint = " (here: --allow-pickle)" if "allow_pickle" in str(error) else ""
        raise UserError(f"{error}{hint}") from error
    whole = next((part for part in _parts(content) if isinstance(part, nn.Module)), None)
    if whole is not None:
        return _of_whole(given, whole, settings, content)
    found = recognise(read_state_dict(path, given.allow_pickle), given.home, path)
    hub = str(found.settings["module"]).partition(":")[0]
    kind_of_network = hub if f"{hub}:" in HUBS else "own"
    return Source(
        kind_of_network,
        found.how,
        found.settings | settings | _pickle(given),
        tuple(saved_names(content)),
        input_size=_size(content),
    )


def _parts(content: object) -> list[object]:
    return [content, *content.values()] if isinstance(content, Mapping) else [content]


def _of_whole(given: Given, network: nn.Module, settings: dict[str, Any], content: object) -> Source:
    """A whole network that was pickled: its class makes it again, so that what is audited is what its source says."""
    home = type(network).__module__
    name = f"{home}:{type(network).__name__}"
    if home == "__main__" or "<locals>" in type(network).__qualname__:
        raise UserError(
            f"{given.model} is a whole network, pickled in a script whose class {type(network).__name__} cannot be imported: "
            "save its state_dict, put the class into a .py file, and give my_net.py:Net --weights model.pt"
        )
    return Source(
        "own",
        f"class {type(network).__name__} of {home}",
        {"module": name} | settings | _pickle(given),
        tuple(saved_names(content)),
    )


def _size(content: object) -> int | None:
    """The size of images that a checkpoint says it was trained on."""
    if not isinstance(content, Mapping):
        return None
    places = [content, *(part for part in content.values() if isinstance(part, Mapping) and not _is_state(part))]
    found = [place[name] for place in places for name in SIZES if isinstance(place.get(name), int)]
    return int(found[0]) if found and found[0] >= 8 else None


def _is_state(part: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in part.values())
