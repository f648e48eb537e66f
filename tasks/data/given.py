"""Images that a program holds, as files and a table beside them: what an audit of them reads, and anybody can audit again.

Nothing is resampled and PNG loses nothing, so the audit sees what the program holds.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from cfx.errors import UserError
from warehouse.facts.storage import write_whole

FOLDER = "given"  # in the warehouse
FILE, LABEL = "file", "label"  # columns of the table
ACCEPTED = (
    "a folder, a list of files, PIL images, arrays or tensors, an array (N, H, W, 3) or a tensor (N, 3, H, W), a torch Dataset "
    "or DataLoader, or a dataset of Hugging Face"
)

Pixels = NDArray[np.uint8]  # (H, W, 3) or, grey, (H, W)


@dataclass(frozen=True)
class Given:
    """Where the images lie, and their table."""

    images: Path
    table: Path
    labelled: bool
    size: tuple[int, int] | None  # height and width, where they are all the same and were held in memory


def given(images: object, labels: object, attributes: object, classes: Sequence[str] | None, root: Path) -> Given:
    """Images of any kind that is ACCEPTED, but a folder, with labels (N) and attributes (columns of N yes/no), as files in root.

    labels: class names, or numbers that `classes` names; None where a dataset brings its own or nothing is known. Files that lie
    somewhere stay there. Raises UserError for what is not accepted, and for labels and attributes that are not as many.
    """
    files, own = _named(images)
    if not files:
        raise UserError("images: there is none")
    if labels is None and any(label is not None for label in own):
        labels = own
    columns = _columns(attributes, len(files))
    rows = [{FILE: name} for name in files]
    if labels is not None:
        for row, label in zip(rows, _class_names(labels, classes, len(files)), strict=True):
            row[LABEL] = label
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return _written(files, rows, labels is not None, root)


def _written(files: Mapping[str, bytes | None], rows: list[dict[str, str]], labelled: bool, root: Path) -> Given:
    """Images and table in a folder of their own, which is known by its content."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    inside = {name: content for name, content in files.items() if content is not None}
    digest = hashlib.sha256(text.getvalue().encode())
    for content in inside.values():
        digest.update(hashlib.sha256(content).digest())
    folder = root / FOLDER / digest.hexdigest()[:16]
    if inside:
        for name, content in inside.items():
            write_whole(root, folder / "images" / name, content)
        home, size = folder / "images", _one_size(inside.values())
    else:
        home, size = Path(os.path.commonpath([os.path.dirname(name) for name in files])), None
        text = io.StringIO(text.getvalue().replace(f"{home}{os.sep}", ""))
    write_whole(root, folder / "table.csv", text.getvalue().encode())
    return Given(home, folder / "table.csv", labelled, size)


def _one_size(contents: Iterable[bytes]) -> tuple[int, int] | None:
    sizes = {Image.open(io.BytesIO(content)).size for content in contents}
    width, height = next(iter(sizes))
    return (height, width) if len(sizes) == 1 else None


def _named(images: object) -> tuple[dict[str, bytes | None], list[object]]:
    """By name, each image as PNG, or None where the name is that of a file; and the labels that a dataset brings."""
    if isinstance(images, torch.utils.data.DataLoader):
        images = images.dataset  # its order may be shuffled, and its batches are not the audit's
    if isinstance(images, np.ndarray | torch.Tensor):
        if images.ndim not in (3, 4):
            raise UserError(f"images: an array of shape {tuple(images.shape)}; give (N, H, W, 3), or (N, H, W) of grey images")
        images = list(images)
    if isinstance(images, str | bytes | Mapping) or not hasattr(images, "__getitem__") or not hasattr(images, "__len__"):
        raise UserError(f"images: {type(images).__name__} is none of what can be audited: {ACCEPTED}")
    held = [_item(images[i], i) for i in range(len(images))]
    named_labels = _label_names(images)
    labels = [named_labels[label] if named_labels and isinstance(label, int) else label for _, label in held]
    names = [os.path.abspath(image) for image, _ in held if isinstance(image, str | os.PathLike)]
    if len(names) == len(held):
        return dict.fromkeys(names), _as_many(names, labels)
    digits = max(5, len(str(len(held))))
    return {f"{i:0{digits}}.png": _png(image, i) for i, (image, _) in enumerate(held)}, labels


def _as_many(names: list[str], labels: list[object]) -> list[object]:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"images: {twice} is in the list twice; name each file once")
    return labels


def _label_names(images: object) -> list[str] | None:
    """What a dataset calls its numbers: torchvision's `classes`, the names of Hugging Face's feature `label`."""
    features = getattr(images, "features", None)
    if isinstance(features, Mapping) and "label" in features:
        return list(getattr(features["label"], "names", None) or []) or None
    classes = getattr(images, "classes", None)
    return [str(name) for name in classes] if isinstance(classes, list | tuple) else None


def _item(item: Any, index: int) -> tuple[object, object]:
    """An image and its label, None where there is none."""
    if isinstance(item, Mapping):
        name = next((name for name in ("image", "img", "pixel_values") if name in item), None)
        if name is None:
            raise UserError(f"images: item {index} has no `image`; it has {', '.join(map(str, item))}")
        return item[name], _number(item.get("label", item.get("labels")))
    if isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], _number(item[1])
    return (item[0] if isinstance(item, tuple | list) and len(item) == 1 else item), None


def _number(label: object) -> object:
    """A label of one element as a plain number or text."""
    return label.item() if isinstance(label, torch.Tensor | np.generic) else label


def _png(image: object, index: int) -> bytes:
    shown = image if isinstance(image, Image.Image) else Image.fromarray(_pixels(image, index))
    if shown.mode not in ("L", "RGB", "RGBA", "P", "LA", "1", "I;16"):
        shown = shown.convert("RGB")
    written = io.BytesIO()
    shown.save(written, "PNG")
    return written.getvalue()


def _pixels(image: object, index: int) -> Pixels:
    """An image of a program as 8-bit pixels. Raises UserError, with what it takes, for one that is something else."""
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu().numpy()
        if image.ndim == 3 and image.shape[0] in (1, 3):
            image = image.transpose(1, 2, 0)
    if not isinstance(image, np.ndarray):
        raise UserError(f"images: item {index} is a {type(image).__name__}, no image; it takes {ACCEPTED}")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise UserError(f"images: item {index} has the shape {image.shape}; it takes (H, W, 3) or (H, W), tensors (3, H, W)")
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    if not np.issubdtype(image.dtype, np.floating):
        raise UserError(f"images: item {index} is of {image.dtype}; it takes uint8 of 0 to 255, or floats of 0 to 1")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise UserError(
            f"images: item {index} has values from {low:.3g} to {high:.3g}; floats are 0 (black) to 1 (white): give images "
            "before they are normalised, and `mean` and `std` with the classifier"
        )
    return np.ascontiguousarray((image * 255).round().astype(np.uint8))


def _class_names(labels: object, classes: Sequence[str] | None, n: int) -> list[str]:
    """Labels as class names, empty where one is unknown. Raises UserError for too few or too many, or a number without name."""
    values = [_number(label) for label in _listed("labels", labels, n)]
    named = []
    for label in values:
        if label is None or (isinstance(label, float) and np.isnan(label)):
            named.append("")
        elif isinstance(label, bool | int) and classes is not None:
            if not 0 <= int(label) < len(classes):
                raise UserError(f"labels: there is no class {label}; `classes` has {len(classes)} names, from 0")
            named.append(classes[int(label)])
        else:
            named.append(str(label))
    return named


def _columns(attributes: object, n: int) -> dict[str, list[str]]:
    """Attributes as text, by name: 1, 0 or empty."""
    if attributes is None:
        return {}
    if isinstance(attributes, pd.DataFrame):
        attributes = {str(name): attributes[name].tolist() for name in attributes.columns}
    if not isinstance(attributes, Mapping):
        raise UserError(f"attributes: a {type(attributes).__name__}; give columns by name: a dict of lists, or a pandas frame")
    return {
        str(name): [_yes_or_no(name, value) for value in _listed(str(name), values, n)] for name, values in attributes.items()
    }


def _yes_or_no(name: object, value: object) -> str:
    value = _number(value)
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if value in (0, 1):
        return str(int(value))
    raise UserError(f"attributes: {name} has the value {value!r}; give True or 1, False or 0, and None where it is unknown")


def _listed(what: str, values: Any, n: int) -> list[Any]:
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    if len(listed) != n:
        raise UserError(f"{what}: {len(listed)} for {n} images; give one an image, None where it is unknown")
    return listed
