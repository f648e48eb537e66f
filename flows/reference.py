"""The reference of settings, made from the configuration itself:  python -m flows.reference > docs/reference/config.md"""

from __future__ import annotations

from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from cfx.diffusion.distillation import Distillation
from cfx.diffusion.guided import GuidedDiffusion
from cfx.training.classifier import ClassifierTraining
from cfx.training.hit import HiTTraining
from cfx.training.repair import Repair
from cfx.training.robust import RobustTraining
from tasks.config import AuditConfig, Method

INTRODUCTION = """# Settings

Made by `python -m flows.reference`; a test holds it to the code. Settings without a default are required. An unknown
setting is an error, and so is a key that stands twice. Paths are relative to the YAML file, wherever they stand in it;
`~`, `$NAME` and `${NAME}` are replaced, `$$` is a dollar sign. `module:` is looked for beside the YAML file before the
current folder. YAML reads `no`, `on`, `3` or `2020-01-01` as something else than text: quote such names. Save the file
as UTF-8.
"""


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The groups of settings inside an annotation, in order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _type(annotation: Any) -> str:
    models = _models(annotation)
    if models:
        beside = [part for part in _alternatives(annotation) if not _models(part) and part is not NoneType]
        named = [f"[{model.__name__}](#{model.__name__.lower()})" for model in models]
        return " or ".join([*(_type(_bare(part)) for part in beside), *named])
    return (
        annotation.__name__
        if isinstance(annotation, type)
        else str(_bare(annotation)).replace("typing.", "").replace("pathlib.", "")
    )


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, also of one within it; none of any other annotation."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    return tuple(one for part in parts for one in _alternatives(part) or (part,))


def _bare(annotation: Any) -> Any:
    """The type without the bounds of `Annotated`, which the description tells."""
    parts = tuple(_bare(part) for part in get_args(annotation))
    match get_origin(annotation):
        case None:
            return annotation
        case origin if origin is Annotated:
            return parts[0]
        case origin if origin in (Union, UnionType):
            return reduce(or_, parts)
        case origin:
            return origin[parts] if origin in (tuple, dict) else annotation


def _section(model: type[BaseModel]) -> list[str]:
    lines = [
        f"\n## {model.__name__}\n",
        f"{(model.__doc__ or '').strip()}\n",
        "| setting | type | default | meaning |",
        "|---|---|---|---|",
    ]
    for name, field in model.model_fields.items():
        default = "" if field.default is PydanticUndefined else f"`{field.default}`"
        if isinstance(field.default, BaseModel):
            default = "its defaults"
        kind = _type(field.annotation).replace("|", "\\|")
        lines.append(f"| `{name}` | {kind} | {default} | {field.description or ''} |")
    return lines


def reference() -> str:
    """Every group of settings as a Markdown table, each once, in the order in which they are reached from an audit's file."""
    waiting: list[type[BaseModel]] = [
        AuditConfig,
        *_models(Method),
        Distillation,
        ClassifierTraining,
        RobustTraining,
        HiTTraining,
        Repair,
        GuidedDiffusion,
    ]
    seen: list[type[BaseModel]] = []
    while waiting:
        model = waiting.pop(0)
        if model not in seen:
            seen.append(model)
            waiting[:0] = [inner for field in model.model_fields.values() for inner in _models(field.annotation)]
    return INTRODUCTION + "\n".join(line for model in seen for line in _section(model)) + "\n"


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201
