"""Configurations as YAML files, checked before any work: what is wrong is reported with its path, its value and the way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cfx.diffusion.guided import PUBLISHED, GuidedDiffusion
from cfx.user_code import importable_from
from tasks.config import AuditConfig, ConfigError
from tasks.data.annotations import Annotations
from tasks.reading.gate import Policy
from tasks.stages.encoders import FILES

PATHS = {
    ("warehouse",),
    ("data", "images"),
    ("data", "table"),
    ("prior", "path"),
    ("saliency", "regions"),
    *((who, "weights") for who in ("classifier", "judge", "oracle")),
    *(("canary", twin, "weights") for twin in ("planted", "clean")),
    *((who, "ca") for who in ("classifier", "judge")),
    *(("measures", encoder) for encoder in FILES),
}


def _resolved(told: Any, base: Path, place: tuple[str, ...] = ()) -> Any:
    """Relative paths made relative to `base`; `portraits:…` names something bundled."""
    if isinstance(told, dict):
        return {key: _resolved(value, base, (*place, str(key))) for key, value in told.items()}
    if isinstance(told, list):
        return [_resolved(value, base, place) for value in told]
    if place in PATHS and isinstance(told, str) and ":" not in told:
        return str((base / told).resolve())
    return told


def _settings() -> set[str]:
    """Every setting's name, of every section, for suggestions."""
    schema = AuditConfig.model_json_schema()
    return {name for part in (schema, *schema["$defs"].values()) for name in part.get("properties", {})}


def told_plainly(source: str, error: ValidationError) -> ConfigError:
    """pydantic's findings as lines that name place, value and way out."""
    lines = []
    for finding in error.errors():
        place = ".".join(str(part) for part in finding["loc"])
        if finding["type"] == "extra_forbidden":
            close = difflib.get_close_matches(str(finding["loc"][-1]), _settings(), n=1)
            hint = f"did you mean {close[0]!r}?" if close else "remove it, or see docs/reference/config.md for what there is"
            lines.append(f"{source}: {place}: there is no such setting; {hint}")
        elif finding["type"] == "missing":
            lines.append(f"{source}: {place}: is required")
        else:
            lines.append(f"{source}: {place}: {finding['msg']} (got {finding['input']!r})")
    return ConfigError(re.sub(r"://[^/\s]+@", "://…@", "\n".join(lines)))  # a password is not repeated


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; see examples/ for a configuration to start from")
    try:
        told = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    if not isinstance(told, dict):
        raise ConfigError(f"{path}: expected settings like `name: ...`, got {type(told).__name__}")
    return told


def load_config(path: Path) -> AuditConfig:
    """Read and check one audit's YAML file; modules that lie beside it can be imported from now on.

    Raises ConfigError, one line a finding.
    """
    importable_from(path.resolve().parent)
    told = {"warehouse": "warehouse-data"} | _read_yaml(path)
    try:
        return AuditConfig.model_validate(_resolved(told, path.resolve().parent))
    except ValidationError as error:
        raise told_plainly(str(path), error) from None


def load_policy(path: Path) -> Policy:
    """Read and check a gate's rules from a YAML file. Raises ConfigError, one line a finding."""
    try:
        return Policy.model_validate(_read_yaml(path))
    except ValidationError as error:
        raise told_plainly(str(path), error) from None


Training = TypeVar("Training", bound=BaseModel)


def training_config(kind: type[Training], path: Path | None, preset: Mapping[str, Any] | None = None) -> Training:
    """The settings of a training from a YAML file, else of the preset, else its defaults. Raises ConfigError."""
    try:
        return kind.model_validate(dict(preset or {}) | (_read_yaml(path) if path is not None else {}))
    except ValidationError as error:
        raise told_plainly(str(path), error) from None


def guided_arguments(
    like: str | None, path: Path | None, num_heads: int | None, num_head_channels: int | None
) -> GuidedDiffusion:
    """The arguments of a guided-diffusion checkpoint: a published one's, changed by a YAML file and then by a head layout.

    Raises ConfigError for a checkpoint that is not known, and for arguments that do not make a network.
    """
    if like is not None and like not in PUBLISHED:
        raise ConfigError(f"--like: there is no {like!r}; there are {', '.join(PUBLISHED)}")
    if like is None and path is None:
        raise ConfigError(f"say how the checkpoint was trained: --like {', '.join(PUBLISHED)}, or --config with its arguments")
    told = (PUBLISHED[like].model_dump() if like else {}) | (_read_yaml(path) if path else {})
    if num_heads is not None or num_head_channels is not None:
        told |= {"num_heads": num_heads, "num_head_channels": num_head_channels}
    try:
        return GuidedDiffusion.model_validate(told)
    except ValidationError as error:
        raise told_plainly(str(path or "arguments"), error) from None


def annotations_of(columns: dict[str, Any]) -> Annotations:
    """A table and its columns, from the command line. Raises ConfigError."""
    try:
        return Annotations.model_validate(columns)
    except ValidationError as error:
        raise told_plainly("arguments", error) from None
