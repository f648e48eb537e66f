"""Models that live in this process, such as a network defined in a notebook.

A configuration names one `cfx.live:NAME`, as it names any module's, for as long as it is held. NAME ends in a hash of what the
model is, so that a model that was trained further is another one to everything that is kept by configuration.
"""

from __future__ import annotations

import copy
import hashlib
import io
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cloudpickle
import torch
from torch import nn

from cfx.errors import UserError
from cfx.user_code import sources_of

DIGITS = 12  # of the hash, in a name

_HELD: dict[str, Callable[..., object]] = {}


def __getattr__(name: str) -> Callable[..., object]:
    if name in _HELD:
        return _HELD[name]
    raise AttributeError(name)


@contextmanager
def held(model: nn.Module | Callable[..., object]) -> Iterator[str]:
    """`cfx.live:NAME` of a model while the body runs: of a network a copy, so that the caller's keeps its mode and its gradients.

    Raises UserError for a network that cannot be copied.

    Examples:
        >>> import sys
        >>> with held(nn.Linear(2, 2)) as reference:
        ...     reference.startswith("cfx.live:Linear_"), hasattr(sys.modules["cfx.live"], reference.split(":")[1])
        (True, True)
        >>> hasattr(sys.modules["cfx.live"], reference.split(":")[1])
        False
    """
    title = getattr(model, "__name__", None) or getattr(model, "original_name", None) or type(model).__name__
    asked = _frozen_copy(model) if isinstance(model, nn.Module) else model
    name = f"{re.sub(r'[^0-9A-Za-z_]', '_', title)}_{content_hash(asked)[:DIGITS]}"
    _HELD[name] = (lambda: asked) if isinstance(asked, nn.Module) else asked
    try:
        yield f"{__name__}:{name}"
    finally:
        _HELD.pop(name, None)


def content_hash(thing: object) -> str:
    """SHA-256 of what an object is: its code, what the code refers to, and the numbers in it; where tensors lie does not matter.

    An object that cannot be looked into has another hash each time: it is never taken for one that was seen before.

    Examples:
        >>> one, other = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> content_hash(one) == content_hash(copy.deepcopy(one)), content_hash(one) == content_hash(other)
        (True, False)
    """
    if isinstance(thing, torch.jit.ScriptModule):
        return _sha256(str(thing.inlined_graph).encode(), *_states(thing))
    written = io.BytesIO()
    try:
        _Content(written).dump(thing)
    except Exception:  # whatever a user's object raises when it is looked into
        return _sha256(uuid.uuid4().bytes)
    classes = {type(part) for part in thing.modules()} if isinstance(thing, nn.Module) else {thing}
    sources = sorted({sources_of(part) for part in classes if callable(part)})
    return _sha256(written.getvalue(), *(source.encode() for source in sources))


class _Content(cloudpickle.Pickler):  # type: ignore[misc]
    """Writes an object as its content: code by value where it is the session's own, tensors by their numbers."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.Tensor):
            return str, (f"{obj.dtype}{tuple(obj.shape)}{_sha256(_bytes(obj))}",)
        reduced = super().reducer_override(obj)
        if isinstance(obj, type) and isinstance(reduced, tuple):  # a class of the session, with an id of its own each session
            make, arguments, *state = reduced
            return make, tuple("" if isinstance(each, str) and each != obj.__name__ else each for each in arguments), *state
        return reduced


def _states(module: nn.Module) -> Iterator[bytes]:
    for name, value in sorted(module.state_dict().items()):
        yield name.encode()
        yield _bytes(value)


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _frozen_copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model).eval().requires_grad_(False)
    except Exception as error:
        raise UserError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {error}); save its weights and give the file and "
            "its module, or script it with torch.jit.script"
        ) from error
