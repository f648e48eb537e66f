"""The names of a classifier's classes, in the order of its outputs: a list, a file of them, its checkpoint, or ImageNet's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import from_json
from torchvision.models import ResNet50_Weights

from cfx.errors import UserError
from cfx.paths import PATH_OR_ID

IMAGENET = "imagenet"
SAVED = ("classes", "class_names", "class_to_idx", "idx_to_class", "id2label")  # what people call them in a checkpoint
SHOWN = 5  # names in a message

_LIST_OR_FILE = {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string", "format": PATH_OR_ID}]}


def imagenet_classes() -> tuple[str, ...]:
    """The names of ImageNet's 1000 classes as torchvision has them, each once, in the usual order."""
    return tuple(ResNet50_Weights.DEFAULT.meta["categories"])


def class_names(given: object) -> object:
    """Names for the text `imagenet` or the path of a file; whatever else is given, as it is.

    A file holds one name a line, or JSON: a list, or names by number as `id2label` has them. Raises UserError for a file that is
    not there or that skips a class.
    """
    if given == IMAGENET:
        return imagenet_classes()
    if not isinstance(given, str | Path):
        return given
    path = Path(given)
    if not path.is_file():
        raise UserError(f"there is no file {str(path)!r}; give a list of names, a file with one a line, or {IMAGENET}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise UserError(f"{path} is not text in UTF-8: {error}") from error
    names = _of_json(text, path) if path.suffix == ".json" else [line.strip() for line in text.rstrip().splitlines()]
    if not all(names):
        raise UserError(f"line {names.index('') + 1} of {path} is empty, and every line is a class: name it, or take it out")
    return tuple(names)


ClassNames = Annotated[tuple[str, ...], BeforeValidator(class_names), Field(min_length=2), WithJsonSchema(_LIST_OR_FILE)]


def saved_names(content: object) -> list[str]:
    """Names that were saved beside weights under one of SAVED, in the order of the outputs; none where there are none, or where
    two of SAVED say otherwise.

    Examples:
        >>> saved_names({"model": {}, "class_to_idx": {"dog": 1, "cat": 0}})
        ['cat', 'dog']
    """
    found = [_in_order(content[key]) for key in SAVED if key in content] if isinstance(content, Mapping) else []
    return found[0] if found and all(names == found[0] for names in found) else []


def _in_order(saved: object) -> list[str]:
    """Names of a list, by number as `id2label`, or numbers by name as ImageFolder's `class_to_idx`; nothing of anything else."""
    if isinstance(saved, Mapping):
        pairs = [(name, at) if isinstance(name, str) and not isinstance(at, str) else (at, name) for name, at in saved.items()]
        try:
            by_number = {int(at): name for name, at in pairs}
        except (TypeError, ValueError):
            return []
        saved = [by_number.get(at) for at in range(len(saved))]
    names = list(saved) if isinstance(saved, list | tuple) else []
    return names if len(names) > 1 and all(isinstance(name, str) and name for name in names) else []


def twice(names: tuple[str, ...]) -> str | None:
    """What is wrong with names of which one is there twice; None where each is once."""
    found = next((name for at, name in enumerate(names) if name in names[:at]), None) if len(set(names)) < len(names) else None
    return None if found is None else f"classes {few(names)}: every class needs a name of its own, and {found!r} is there twice"


def few(names: tuple[str, ...]) -> str:
    """Names for a message: all of a few, the first of many."""
    more = f" … ({len(names):,} in all)" if len(names) > 2 * SHOWN else ""
    return ", ".join(names[:SHOWN] if more else names) + more


def _of_json(text: str, path: Path) -> list[str]:
    try:
        found = from_json(text)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    if isinstance(found, dict):
        numbered = {str(i) for i in range(len(found))}
        if set(found) != numbered:
            raise UserError(f"{path} names classes by number, and these are not 0 to {len(found) - 1}; put every output in")
        found = [found[str(i)] for i in range(len(found))]
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise UserError(f"{path} holds neither a list of names nor names by number")
    return found
