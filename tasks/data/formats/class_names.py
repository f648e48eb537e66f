"""Class numbers as class names, by Hugging Face's note in the schema of a table."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import from_json

from cfx.errors import UserError


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """The class names of each column that has such; none where the note is not Hugging Face's."""
    match _note(schema):
        case {"info": {"features": dict(features)}}:
            return {name: about["names"] for name, about in features.items() if _names_classes(about)}
    return {}


def _note(schema: pa.Schema) -> object:
    try:
        return from_json((schema.metadata or {}).get(b"huggingface", b"{}"))
    except ValueError:
        return None


def _names_classes(about: object) -> bool:
    names = about.get("names") if isinstance(about, dict) else None
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def named(column: Any, names: list[str] | None) -> Any:
    """Class numbers as names; -1 is Hugging Face's word for unknown. Raises UserError for a number without a name."""
    if names is None:
        return column
    known = pc.if_else(pc.greater_equal(column, 0), column, None).cast(pa.int64())
    if (highest := pc.max(known).as_py()) is not None and highest >= len(names):
        raise UserError(f"class {highest} has no name; the schema names {len(names)}, {', '.join(names[:6])}")
    return pa.array(names, pa.string()).take(known)
