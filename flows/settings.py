"""Settings from YAML files: read, checked against their model, and errors in plain words. Imports no torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cfx.errors import ConfigError

Settings = TypeVar("Settings", bound=BaseModel)


def load(kind: type[Settings], path: Path) -> Settings:
    """Read and check one YAML file. Raises ConfigError, one line a finding."""
    return checked(kind, read_yaml(path), str(path))


def checked(kind: type[Settings], values: Mapping[str, Any], source: str) -> Settings:
    """Values as settings of this kind. source: where they were read, for messages. Raises ConfigError, one line a finding."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _plainly(kind, source, error) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a file, unchecked. Raises ConfigError where there is no file, or no settings in it."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; see examples/ for a configuration to start from")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected settings like `name: ...`, got {type(values).__name__}")
    return values


def _plainly(kind: type[BaseModel], source: str, error: ValidationError) -> ConfigError:
    """pydantic's findings as lines that name place, value and way out."""
    lines = []
    for finding in error.errors():
        place = ".".join(str(part) for part in finding["loc"])
        if finding["type"] == "extra_forbidden":
            close = difflib.get_close_matches(str(finding["loc"][-1]), _names(kind), n=1)
            hint = f"did you mean {close[0]!r}?" if close else "remove it, or see docs/reference/config.md for what there is"
            lines.append(f"{source}: {place}: there is no such setting; {hint}")
        elif finding["type"] == "missing":
            lines.append(f"{source}: {place}: is required")
        else:
            lines.append(f"{source}: {place}: {finding['msg']} (got {finding['input']!r})")
    return ConfigError(re.sub(r"://[^/\s]+@", "://…@", "\n".join(lines)))  # a password is not repeated


def _names(kind: type[BaseModel]) -> set[str]:
    """Every setting's name, of every section, for suggestions."""
    schema = kind.model_json_schema()
    return {name for part in (schema, *schema.get("$defs", {}).values()) for name in part.get("properties", {})}
