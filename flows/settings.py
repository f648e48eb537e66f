"""Settings from YAML files: read, checked against their model, and errors in plain words. Imports no torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cfx.credentials import SECRETIVE, refuse_credentials
from cfx.errors import ConfigError, UserError
from cfx.masking import cut, masked
from cfx.yaml_reading import read
from flows.paths import absolute

Settings = TypeVar("Settings", bound=BaseModel)
MOST = 6  # findings that are listed: a thousand classes that are numbers are one mistake
LONGEST = 400  # characters of a value in a message
WORDS = {True: '"yes" or "on"', False: '"no" or "off"'}  # what a truth value was meant to be


def load(kind: type[Settings], path: Path) -> Settings:
    """Read and check one YAML file; relative paths in it are relative to it. Raises ConfigError, one line a finding."""
    return checked(kind, settings_in(kind, path), str(path))


def settings_in(kind: type[BaseModel], path: Path, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings in a file over `defaults`, unchecked but for paths, which are absolute. Raises ConfigError."""
    values = read_yaml(path)
    _no_credentials(values, str(path))  # while an address is still one, and no path
    try:
        return absolute(kind, {**(defaults or {}), **values}, path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None


def checked(kind: type[Settings], values: Mapping[str, Any], source: str) -> Settings:
    """Values as settings of this kind. source: where they were read, for messages. Raises ConfigError, one line a finding."""
    _no_credentials(values, source)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _plainly(kind, source, error) from None


def _no_credentials(values: Mapping[str, Any], source: str) -> None:
    try:
        refuse_credentials(values)
    except UserError as error:
        raise ConfigError(f"{source}: {error}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a file, unchecked. Raises ConfigError where there is no file, or no settings in it."""
    values = read(path)
    if not isinstance(values, dict):
        text = str(values)
        found = "nothing" if values is None else "a list" if isinstance(values, list) else "one word"  # it may be a secret's file
        if isinstance(values, str) and re.search(r"[\s,]", text):
            found = repr(cut(text, 40))
        raise ConfigError(f"{path}: expected settings like `name: ...`, found {found}")
    return values


def _plainly(kind: type[BaseModel], source: str, error: ValidationError) -> ConfigError:
    """pydantic's findings as lines that name place, value and way out."""
    lines = []
    findings = [finding | {"input": _shown(finding["input"])} for finding in error.errors()]
    for finding in findings:
        if any(other is not finding and other["loc"][:-1] == finding["loc"] for other in findings):
            continue  # what is wrong inside says it
        place = ".".join(str(part) for part in finding["loc"])
        if finding["type"] == "extra_forbidden":
            close = difflib.get_close_matches(str(finding["loc"][-1]), _names(kind), n=1)
            hint = f"did you mean {close[0]!r}?" if close else "remove it, or see docs/reference/config.md for what there is"
            lines.append(f"{source}: {place}: there is no such setting; {hint}")
        elif finding["type"] == "missing":
            lines.append(f"{source}: {place}: is required")
        elif finding["type"] in ("string_type", "invalid_key") and (way_out := _quoted(finding)):
            lines.append(f"{source}: {place}: {way_out}")
        else:
            at = f"{place}: " if place else ""  # what is wrong between settings has no place of its own
            got = "" if _may_be_secret(finding["loc"]) else f" (got {finding['input']!r})"
            lines.append(f"{source}: {at}{cut(finding['msg'], 2 * LONGEST)}{got}")
    if len(lines) > MOST:
        lines[MOST:] = [f"{source}: and {len(lines) - MOST} more like these"]
    found = masked("\n".join(lines))
    return ConfigError(re.sub(r"(://[^\s'?#]*[?#])[^\s']+", r"\1…", found))


def _shown(value: Any) -> Any:
    """A value as a message shows it: itself, or the beginning of what would fill the screen."""
    written = masked(repr(value))
    return value if len(written) <= LONGEST else f"{written[:LONGEST]} …"


def _may_be_secret(place: tuple[int | str, ...]) -> bool:
    """Whether somebody may have put a secret here, or into a part of it."""
    return any(part in ("auth", "env", "header", "scheme") or SECRETIVE.search(str(part)) for part in place)


def _quoted(finding: ErrorDetails) -> str | None:
    """What to write where text is needed and YAML has read something else; None for what no quotes would mend."""
    value = finding["loc"][-1] if finding["type"] == "invalid_key" else finding["input"]
    if isinstance(value, bool):
        read = "yes and on" if value else "no and off"
        return f"{str(value).lower()} is not text: YAML reads {read} as {value}; quote it: {WORDS[value]}"
    if value is None:
        return 'nothing is written here, and YAML reads null and ~ as nothing too; if it is text, quote it: "null"'
    if isinstance(value, int | float | date):
        return f'{value} is not text: YAML reads it as a {"date" if isinstance(value, date) else "number"}; quote it: "{value}"'
    return None


def _names(kind: type[BaseModel]) -> set[str]:
    """Every setting's name, of every section, for suggestions."""
    schema = kind.model_json_schema()
    return {name for part in (schema, *schema.get("$defs", {}).values()) for name in part.get("properties", {})}
