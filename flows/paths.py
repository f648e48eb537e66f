"""What a path in a file of settings means. Which settings are paths, their schema says: those of format `path`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeAlias

from pydantic import BaseModel

from cfx.errors import ConfigError
from cfx.paths import PATH, PATH_OR_ID

Schema: TypeAlias = Mapping[str, Any]

_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[^}]*)\})")
_A_PATH = ("/", "./", "../", "~", "$")  # what a text begins with that cannot be a model's id


def absolute(kind: type[BaseModel], values: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Settings of this kind with every path in them absolute: `~` and variables replaced, the rest relative to `base`.

    Raises ConfigError naming the setting for a variable that is not set.
    """
    schema = kind.model_json_schema()
    found = _absolute(values, [schema], _Reading(schema.get("$defs", {}), base))
    assert isinstance(found, dict)
    return found


class _Reading:
    """The definitions that a schema refers to, and the folder of the file."""

    def __init__(self, definitions: Schema, base: Path) -> None:
        self.definitions, self.base = definitions, base

    def alternatives(self, schemas: Iterable[Schema]) -> Iterator[Schema]:
        """What a value may be: references followed, unions taken apart."""
        for schema in schemas:
            if "$ref" in schema:
                yield from self.alternatives([self.definitions[schema["$ref"].rpartition("/")[2]]])
            yield schema
            yield from self.alternatives(part for union in ("anyOf", "oneOf", "allOf") for part in schema.get(union, ()))


def _absolute(value: Any, schemas: Iterable[Schema], reading: _Reading, place: tuple[str, ...] = ()) -> Any:
    kinds = list(reading.alternatives(schemas))
    if isinstance(value, Mapping):
        inside = {key: [part for kind in kinds for part in _of_key(kind, str(key))] for key in value}
        return {key: _absolute(inner, inside[key], reading, (*place, str(key))) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        each = [kind["items"] for kind in kinds if isinstance(kind.get("items"), Mapping)]
        of_place = [kind["prefixItems"] for kind in kinds if "prefixItems" in kind]  # of a tuple, each has its own
        own = [[*each, *(known[i] for known in of_place if i < len(known))] for i in range(len(value))]
        return [_absolute(inner, own[i], reading, (*place, str(i))) for i, inner in enumerate(value)]
    formats = {kind.get("format") for kind in kinds}
    value = str(value) if isinstance(value, PurePath) else value
    if not isinstance(value, str) or not formats & {PATH, PATH_OR_ID} or value.startswith("portraits:"):
        return value
    if PATH not in formats and not value.startswith(_A_PATH) and not _is_there(reading.base / value):
        return value  # a name: of a model of the hub, of ImageNet's classes
    return _path(value, reading.base, ".".join(place))


def _of_key(schema: Schema, key: str) -> list[Schema]:
    """The schemas of what stands under this key."""
    others = schema.get("additionalProperties")
    return [part for part in (schema.get("properties", {}).get(key), others) if isinstance(part, Mapping)]


def _path(text: str, base: Path, place: str) -> str:
    """One path, absolute; an address such as s3://bucket/prefix with its variables replaced."""
    known = expanded(text, place)
    try:
        return known if "://" in known else str((base / known).resolve())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{place}: {text[:200]!r} is no path: {getattr(error, 'strerror', None) or error}") from None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # too long for a name, or in a folder that may not be read
        return False


def expanded(text: str, place: str) -> str:
    """`~`, `$NAME` and `${NAME}` replaced, `$$` for a dollar sign. Raises ConfigError for a variable that is not set."""

    def value(match: re.Match[str]) -> str:
        name = match["name"] or match["braced"]
        if match["escaped"]:
            return "$"
        if not (known := os.environ.get(name)):
            raise ConfigError(
                f"{place}: {text!r} names the environment variable {name!r}, which is not set; set it, or write $$ for a "
                "dollar sign"
            )
        return known

    return os.path.expanduser(_VARIABLE.sub(value, text))
