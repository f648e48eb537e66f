"""Configurations as YAML files, checked before any work: what is wrong is reported with its path, its value and the way out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfx.diffusion.guided import PUBLISHED, GuidedDiffusion
from cfx.errors import ConfigError
from flows.settings import Settings, checked, read_yaml, settings_in
from tasks.config import AuditConfig
from tasks.data.ingest import DataConfig


def load_config(path: Path) -> AuditConfig:
    """Read and check one audit's YAML file; modules that lie beside it can be imported from now on.

    Raises ConfigError, one line a finding.
    """
    called = re.sub("[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "audit"
    values = settings_in(AuditConfig, path, {"name": called, "warehouse": "warehouse-data"})
    return checked(AuditConfig, values, str(path)).beside(path.resolve().parent)


def training_config(kind: type[Settings], path: Path | None, preset: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a training from a YAML file, else of the preset, else its defaults. Raises ConfigError."""
    return checked(kind, dict(preset or {}) if path is None else settings_in(kind, path, preset), str(path or "preset"))


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


def data_of(settings: dict[str, Any]) -> DataConfig:
    """A folder, a table and its columns, from the command line. Raises ConfigError."""
    return checked(DataConfig, settings, "arguments")
