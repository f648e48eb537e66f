"""Configurations as YAML files, checked before any work: what is wrong is reported with its path, its value and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfx.diffusion.guided import PUBLISHED, GuidedDiffusion
from cfx.errors import ConfigError
from cfx.user_code import importable_from
from flows.settings import Settings, checked, read_yaml
from tasks.config import AuditConfig
from tasks.data.annotations import Annotations
from tasks.stages.encoders import FILES

PATHS = {
    ("warehouse",),
    ("data", "images"),
    ("data", "table"),
    ("data", "annotations"),
    ("prior", "path"),
    ("saliency", "regions"),
    *((who, "weights") for who in ("classifier", "judge", "oracle")),
    *(("canary", twin, "weights") for twin in ("planted", "clean")),
    *((who, "ca") for who in ("classifier", "judge")),
    *(("measures", encoder) for encoder in FILES),
}


def _resolved(value: Any, base: Path, place: tuple[str, ...] = ()) -> Any:
    """Relative paths made relative to `base`; `portraits:…` names something bundled."""
    if isinstance(value, dict):
        return {key: _resolved(inner, base, (*place, str(key))) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, base, place) for inner in value]
    if place in PATHS and isinstance(value, str) and ":" not in value:
        return str((base / value).resolve())
    return value


def load_config(path: Path) -> AuditConfig:
    """Read and check one audit's YAML file; modules that lie beside it can be imported from now on.

    Raises ConfigError, one line a finding.
    """
    importable_from(path.resolve().parent)
    values = {"warehouse": "warehouse-data"} | read_yaml(path)
    return checked(AuditConfig, _resolved(values, path.resolve().parent), str(path))


def training_config(kind: type[Settings], path: Path | None, preset: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a training from a YAML file, else of the preset, else its defaults. Raises ConfigError."""
    return checked(kind, dict(preset or {}) | (read_yaml(path) if path is not None else {}), str(path or "preset"))


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
    values = (PUBLISHED[like].model_dump() if like else {}) | (read_yaml(path) if path else {})
    if num_heads is not None or num_head_channels is not None:
        values |= {"num_heads": num_heads, "num_head_channels": num_head_channels}
    return checked(GuidedDiffusion, values, str(path or "arguments"))


def annotations_of(columns: dict[str, Any]) -> Annotations:
    """A table and its columns, from the command line. Raises ConfigError."""
    return checked(Annotations, columns, "arguments")
