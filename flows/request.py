"""What a program asks an audit for, as a configuration: models and images of any kind, and settings as in a YAML file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import BaseModel
from torch import nn

from cfx.errors import ConfigError, UserError
from cfx.live import held
from flows.paths import absolute
from flows.settings import checked
from tasks.config import AuditConfig
from tasks.data.given import FILE, LABEL, Given, given
from warehouse.facts.storage import warehouse_at

NAMED = re.compile(r"[A-Za-z_][\w.]*:[\w.-]+")  # `timm:resnet18`, `my_package.my_net:Net`; no URL, no drive
BUNDLED = "portraits:"
LARGEST = 512  # pixels of a side: larger images are hardly what a classifier is shown
LOOKED_AT = 64  # files whose size is read


@dataclass(frozen=True)
class Request:
    """A model, images, and what else was said of them; see `cfx.audit`."""

    model: object
    images: object
    labels: object = None
    attributes: object = None
    classes: Sequence[str] | None = None
    prior: object = None
    oracle: object = None
    judge: object = None
    name: str = "audit"
    warehouse: str | Path = "cfx-audits"
    settings: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def configured(request: Request) -> Iterator[AuditConfig]:
    """The configuration, usable while the body runs: until then a model of this process is known by its name.

    Raises ConfigError or UserError, one line a finding, for what cannot be audited.
    """
    with ExitStack() as stack:

        def hold(model: Any) -> str:
            return stack.enter_context(held(model))

        settings = dict(request.settings)
        classifier = _classifier(request.model, request.classes, settings.pop("classifier", {}), hold)
        data = _data(request, settings.pop("data", {}), classifier)
        if isinstance(request.model, nn.Module) and isinstance(data["size"], int):  # it may take no other
            classifier.setdefault("input_size", data["size"])
        values = {"name": request.name, "warehouse": request.warehouse, "data": data, "classifier": classifier, **settings}
        if request.judge is not None:
            values["judge"] = _classifier(request.judge, classifier.get("classes"), {}, hold, "judge")
        if request.oracle is not None:
            values["oracle"] = _oracle(request.oracle, hold)
        if request.prior is not None:
            values["prior"] = request.prior if (path := _path(request.prior)) is None else {"path": path}
        yield checked(AuditConfig, absolute(AuditConfig, values, Path.cwd()), "cfx.audit").beside(Path.cwd())


Hold = Callable[[Any], str]


def _path(value: object) -> str | None:
    """A path as text; None for anything else, and for `auto`, which is no file."""
    return os.fspath(value) if isinstance(value, str | os.PathLike) and value != "auto" else None


def _classifier(
    model: object, classes: Sequence[str] | None, more: Mapping[str, Any], hold: Hold, role: str = "model"
) -> dict[str, Any]:
    """The section of a classifier: a network of torch, a function, a file, `timm:NAME`, or a section as in a YAML file."""
    named = dict(more) | ({"classes": tuple(classes)} if classes is not None else {})
    if isinstance(model, BaseModel):
        return model.model_dump(mode="json", exclude_unset=True) | named
    if isinstance(model, Mapping):
        return {**model, **named}
    if isinstance(model, nn.Module):
        known = getattr(model, "classes", None)
        own = {"classes": tuple(map(str, known))} if isinstance(known, list | tuple) else {}
        return {"module": hold(model), **own, **named}
    if (path := _path(model)) is not None:
        return _of_text(path, named, role)
    if callable(model):
        return {"access": "callable", "module": hold(model), **named}
    raise UserError(
        f"{role}: a {type(model).__name__} cannot be audited; give a torch module, a function, a file of weights, "
        "`timm:NAME`, `package.module:factory`, or a section `classifier` of a YAML file as a dict"
    )


def _of_text(text: str, named: dict[str, Any], role: str) -> dict[str, Any]:
    if text.startswith(("http://", "https://")):
        raise UserError(
            f"{role}: of an endpoint more must be known than {text}: give {{'access': 'kserve', 'url': …, 'classes': …}}, or "
            "'json' (docs/how-to/black-box.md)"
        )
    if text.endswith(".onnx"):
        return {"access": "onnx", "weights": text, **named}
    if NAMED.fullmatch(text) and not text.startswith(BUNDLED) and not Path(text).exists():
        return {"module": text, **named}
    return {"weights": text, **named}


def _oracle(oracle: object, hold: Hold) -> object:
    if isinstance(oracle, nn.Module):
        attributes = getattr(oracle, "attributes", None)
        if not isinstance(attributes, list | tuple):
            raise UserError(
                "oracle: a torch module needs `attributes`, the names of its outputs: oracle.attributes = ('glasses', …)"
            )
        return {"module": hold(oracle), "attributes": tuple(attributes)}
    return oracle if (path := _path(oracle)) is None else {"weights": path}


def _data(request: Request, more: Mapping[str, Any], classifier: Mapping[str, Any]) -> dict[str, Any]:
    """The section `data`: a folder as it lies, other images as files and a table in the warehouse."""
    if (path := _path(request.images)) is not None:
        folder = Path(path)
        if request.labels is not None or request.attributes is not None:
            raise UserError(
                "labels, attributes: of a folder they are in a table: data={'table': 'table.csv', 'label_column': 'label'}; or "
                "give a list of files"
            )
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else []
        return {"images": folder, **_size(more, classifier, _one_size(files)), **more}
    root = warehouse_at(request.warehouse)
    there = given(request.images, request.labels, request.attributes, classifier.get("classes"), root)
    files = [] if there.size else [there.images / name for name in _first_files(there)]
    labelled = {"label_column": LABEL} if there.labelled else {}
    return {
        "images": there.images,
        "table": there.table,
        **labelled,
        **_size(more, classifier, there.size or _one_size(files)),
        **more,
    }


def _first_files(there: Given) -> list[str]:
    import pandas as pd

    return list(pd.read_csv(there.table, nrows=LOOKED_AT, dtype=str)[FILE])


def _size(more: Mapping[str, Any], classifier: Mapping[str, Any], one: tuple[int, int] | None) -> dict[str, Any]:
    """The size that the classifier sees: what it wants, or the images' own. Raises ConfigError where neither is known."""
    if "size" in more:
        return {}
    if isinstance(side := classifier.get("input_size"), int):
        return {"size": side}
    if one is None or max(one) > LARGEST:
        found = "several sizes" if one is None else f"{one[0]} x {one[1]} pixels"
        raise ConfigError(
            f"data.size: the images have {found}, and nothing says what the classifier sees in production; say it: "
            "data={'size': 224}"
        )
    return {"size": one[0] if one[0] == one[1] else one}


def _one_size(files: Sequence[Path]) -> tuple[int, int] | None:
    """Height and width of the first files that are images, where they are alike."""
    sizes = set()
    for path in files[:LOOKED_AT]:
        try:
            with Image.open(path) as image:
                sizes.add(image.size)
        except OSError:  # reported when it is read
            continue
    if len(sizes) != 1:
        return None
    ((width, height),) = sizes
    return height, width
