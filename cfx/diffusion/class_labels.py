"""Classes of class-conditional models, by name or number."""

from __future__ import annotations

from typing import Any

from cfx.diffusion.pipeline_index import Index
from cfx.errors import UserError


def class_of(index: Index, network: Any, label: str | int | None) -> int | None:
    """The number of a class by its name (model_index.json's id2label) or number.

    Where no label is given, the empty class, or None of a model without classes. Raises UserError for a class that there is not,
    and for a label that is missing.
    """
    classes = network.config.get(index.family.classes)
    if classes is None:
        if label is not None:
            raise UserError(f"label is {label!r}, but {index.folder} knows no classes; leave it out")
        return None
    if label is None:
        if not index.family.empty_class:
            raise UserError(
                f"{index.folder} draws {classes} classes, and was not trained without one; set `label` (0 to {classes - 1})"
            )
        return int(classes)
    if isinstance(label, int) or label.isdecimal():
        if not 0 <= int(label) < classes:
            raise UserError(f"label is {label}, but the classes of {index.folder} are 0 to {classes - 1}")
        return int(label)
    return _by_name(index, label, int(classes))


def empty_class(index: Index, network: Any) -> int | None:
    """The number of the class that stands for none of them; None where there is none."""
    return int(network.config[index.family.classes]) if index.family.empty_class and index.family.classes else None


def _by_name(index: Index, label: str, classes: int) -> int:
    names = index.settings.get("id2label") or {}
    found = [int(number) for number, name in names.items() if label in (name, *map(str.strip, name.split(",")))]
    if len(found) != 1:
        what = f"{len(found)} classes" if found else "no class"
        way_out = f"one of {', '.join(map(str, found))}" if found else f"a number, 0 to {classes - 1}"
        raise UserError(f"label is {label!r}, but {what} of {index.folder} are called so; set {way_out}")
    return found[0]
