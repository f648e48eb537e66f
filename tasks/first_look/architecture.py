"""Which network a state dict belongs to: one of the user's own classes beside it, of torchvision, or of timm.

Nothing is guessed from names alone: a network counts where every name and shape is its own.
"""

from __future__ import annotations

import ast
import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import get_model, list_models

from cfx.beside import look_beside
from cfx.errors import UserError
from cfx.state_dict import COUNTER
from cfx.user_code import import_named

SMALLEST = 12  # tensors: no published network has fewer
SECONDS = 25.0  # of trying networks of timm, of which there are more than a thousand
OUTPUTS = ("num_classes", "n_classes", "nclasses", "classes", "num_outputs", "n_outputs", "outputs", "out_features", "num_labels")
TORCHVISION = (  # names at the top of a state dict, and which of torchvision's networks have them
    ({"features", "classifier"}, ("alexnet", "convnext*", "densenet*", "efficientnet*", "mobilenet*", "squeezenet*", "vgg*")),
    ({"conv1", "layer1", "fc"}, ("resnet*", "resnext*", "wide_resnet*")),
    ({"conv_proj", "encoder", "heads"}, ("vit*",)),
    ({"features", "norm", "head"}, ("swin*",)),
    ({"stem", "trunk_output"}, ("regnet*",)),
    ({"conv5", "stage2"}, ("shufflenet*",)),
    ({"layers", "classifier"}, ("mnasnet*",)),
    ({"stem", "blocks", "classifier"}, ("maxvit*",)),
    ({"Conv2d_1a_3x3"}, ("inception_v3",)),
    ({"inception3a"}, ("googlenet",)),
)
FAMILIES = (  # names at the top of a state dict, and which of timm's networks begin so
    ({"patch_embed", "blocks"}, ("vit_tiny*", "vit_small*", "vit_base*", "deit*", "vit_large*", "vit_*")),
    ({"patch_embed", "layers"}, ("swin*",)),
    ({"stem", "stages"}, ("convnext*", "regnet*", "convnextv2*")),
    ({"conv_stem", "blocks"}, ("efficientnet*", "tf_efficientnet*", "mobilenetv3*", "mobilenetv2*", "mixnet*", "mnasnet*")),
    ({"conv1", "layer1"}, ("resnet*", "seresnet*", "resnext*", "wide_resnet*", "skresnet*", "ecaresnet*")),
    ({"features", "classifier"}, ("densenet*",)),
)


class Recognised(NamedTuple):
    """A network by its settings, and how it was recognised."""

    settings: dict[str, Any]  # module, kwargs
    how: str


def recognise(state: Mapping[str, Tensor], folder: Path, weights: Path) -> Recognised:
    """The network of a state dict. folder: where the user's own modules are looked for.

    Raises UserError that says what was tried and how to name the network.
    """
    plain = _plain(state)
    outputs = _outputs(plain)
    own, passed_over = _of_user(state, _modules(folder, weights), folder, outputs)
    found = own
    if own is None and len(plain) >= SMALLEST:
        found = _of_torchvision(plain, outputs) or _of_timm(plain, outputs)
    if found is None:
        tops = ", ".join(dict.fromkeys(name.partition(".")[0] for name in plain))
        beside = f" ({'; '.join(passed_over)})" if passed_over else ""
        raise UserError(
            f"{weights} holds weights alone ({len(plain)} tensors: {tops}), and they are those of no network of torchvision or "
            f"timm that was tried, nor of a class in a .py file of {folder}{beside}; name the class that makes the network: "
            f"cfx init IMAGES TABLE my_net.py:Net --weights {weights}"
        )
    return found


def _plain(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names without what all of them begin with (`model.`, `net.`) -> shapes, counters left out."""
    return list(_stripped({name: tuple(value.shape) for name, value in state.items() if not name.endswith(COUNTER)}))[-1]


def _stripped(shapes: dict[str, tuple[int, ...]]) -> Iterator[dict[str, tuple[int, ...]]]:
    """Shapes by their names, then without what all names begin with, as often as they do."""
    yield shapes
    if len({name.partition(".")[0] for name in shapes}) == 1 and all("." in name for name in shapes):
        yield from _stripped({name.partition(".")[2]: shape for name, shape in shapes.items()})


def _outputs(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """How many outputs the last matrix gives."""
    return next((shape[0] for shape in reversed(list(shapes.values())) if len(shape) in (2, 4)), None)


def _fits(network: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return _plain(network.state_dict()) == dict(shapes)


def _modules(home: Path, weights: Path) -> list[Path]:
    """The .py files beside the settings, and those beside the weights where settings can name them."""
    places = dict.fromkeys((home.resolve(), weights.resolve().parent))
    return [path for place in places if place.is_relative_to(home.resolve()) for path in sorted(place.glob("*.py"))]


def _of_user(
    state: Mapping[str, Tensor], modules: Sequence[Path], home: Path, outputs: int | None
) -> tuple[Recognised | None, list[str]]:
    """A class of one of the modules whose parts are called so; and why others were passed over.

    A file is only imported if it does nothing but define when it is.
    """
    named = [{name.partition(".")[0] for name in level} for level in _stripped(dict.fromkeys(state, ()))]
    shapes, passed_over = _plain(state), list[str]()
    for path in modules:
        module = ".".join(path.relative_to(home.resolve()).with_suffix("").parts)
        names = [name for name, parts in _classes_in(path) if any(tops <= parts for tops in named)]
        if names and not _only_defines(path):
            passed_over.append(f"{path.name} has {names[0]}, but does more than define when it is imported")
            continue
        for name in names:
            look_beside(home.resolve())
            with suppress(ImportError, UserError):
                made = _made(import_named(f"{module}:{name}")[1], outputs)
                if made is not None and _fits(made[0], shapes):
                    kwargs = {"kwargs": made[1]} if made[1] else {}
                    return Recognised({"module": f"{module}:{name}"} | kwargs, f"class {name} of {path.name}"), passed_over
                passed_over.append(f"{name} of {path.name} makes other shapes or needs arguments")
    return None, passed_over


def _classes_in(path: Path) -> Iterator[tuple[str, set[str]]]:
    """The classes of a file, each with the names that it gives to its own parts."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    except SyntaxError:
        return
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            targets = (part for part in ast.walk(node) if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store))
            yield node.name, {part.attr for part in targets if isinstance(part.value, ast.Name) and part.value.id == "self"}


def _only_defines(path: Path) -> bool:
    """Whether importing a file runs no more than definitions, imports and assignments."""
    harmless = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Assign, ast.AnnAssign)

    def is_plain(node: ast.stmt) -> bool:
        guard = isinstance(node, ast.If) and "__name__" in ast.dump(node.test)
        return guard or isinstance(node, harmless) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))

    return all(map(is_plain, ast.parse(path.read_text(encoding="utf-8", errors="replace")).body))


def _made(make: Any, outputs: int | None) -> tuple[nn.Module, dict[str, object]] | None:
    """What a class makes, by itself or of the number of outputs, and with which arguments."""
    named = [name for name in inspect.signature(make).parameters if name in OUTPUTS]
    for kwargs in ({}, {named[0]: outputs} if named and outputs is not None else None):
        with suppress(Exception):  # the user's own code, tried with arguments that it may not take
            if kwargs is None or not isinstance(network := make(**kwargs), nn.Module):
                continue
            if kwargs or not named or _outputs(_plain(network.state_dict())) == outputs:
                return network, dict(kwargs)
    return None


def _of_torchvision(shapes: Mapping[str, tuple[int, ...]], outputs: int | None) -> Recognised | None:
    tops = {name.partition(".")[0] for name in shapes}
    patterns = next((patterns for first, patterns in TORCHVISION if first <= tops), ())
    for name in [name for pattern in patterns for name in list_models(module=models, include=pattern)]:
        if outputs is None:
            return None
        made = {"init_weights": False, "aux_logits": "AuxLogits" in tops} if name in ("inception_v3", "googlenet") else {}
        with suppress(Exception):  # a network that cannot be made without memory, or of so many outputs
            with torch.device("cpu" if name.startswith("regnet") else "meta"):
                network = get_model(name, weights=None, num_classes=outputs, **made)
            if _fits(network, shapes):
                kwargs = {} if outputs == 1000 else {"kwargs": {"num_classes": outputs}}
                return Recognised({"module": f"torchvision:{name}"} | kwargs, f"every tensor is {name}'s of torchvision")
    return None


def _of_timm(shapes: Mapping[str, tuple[int, ...]], outputs: int | None) -> Recognised | None:
    """The first of timm's networks that fits; several may, which differ in nothing but what they were shown."""
    tops, until = {name.partition(".")[0] for name in shapes}, time.monotonic() + SECONDS
    patterns = next((patterns for first, patterns in FAMILIES if first <= tops), ())
    for name in dict.fromkeys(name for pattern in patterns for name in timm.list_models(pattern)):
        if outputs is None or time.monotonic() > until:
            return None
        with suppress(Exception):  # of this number of outputs timm may not make it
            with torch.device("meta"):
                network = timm.create_model(name, pretrained=False, num_classes=outputs)
            if _fits(network, shapes):
                kwargs = {} if outputs == 1000 else {"kwargs": {"num_classes": outputs}}
                return Recognised({"module": f"timm:{name}"} | kwargs, f"every tensor is {name}'s of timm, and maybe of others")
    return None
