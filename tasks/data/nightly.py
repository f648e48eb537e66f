"""Tonight's images: drawn once, when the night's audit begins, and the same again after a kill, whatever the table has gained."""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path

from tasks.data.annotations import Nightly
from tasks.data.ingest import DataConfig, selected
from warehouse.facts.shards import find_shard, read_shard, write_shard

KEY = "all"


def of_night(config: DataConfig, night: datetime.date) -> DataConfig:
    """The configuration for this night, such as the one that a run was scheduled for; unless it names its night or has none."""
    if not isinstance(config.limit, Nightly) or "date" in config.limit.model_fields_set:
        return config
    return config.model_copy(update={"limit": config.limit.model_copy(update={"date": night})})


def settled(root: Path, config: DataConfig) -> DataConfig:
    """The configuration with its night's images: those that the warehouse keeps for it, or else drawn now, to be kept by `keep`.

    Raises UserError as `selected` does.
    """
    if not isinstance(config.limit, Nightly) or config.limit.files is not None:
        return config
    kept = find_shard(root, "draws", _draw_id(config), KEY)
    files = (read_shard(kept, ["file"]) if kept is not None else selected(config))["file"].to_pylist()
    return config.model_copy(update={"limit": config.limit.of([file for file in files if file])})


def keep(root: Path, config: DataConfig) -> None:
    """Write down which images the night has, if it is one and nobody has before."""
    if isinstance(config.limit, Nightly) and config.limit.files is not None:
        files = config.limit.files
        write_shard(root, "draws", _draw_id(config), KEY, {"file": files, "night": [config.limit.date] * len(files)})


def _draw_id(config: DataConfig) -> str:
    """The run id of a draw, by all that it depends on but the table's rows: audits of the same data share it."""
    return f"draw-{hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:10]}"
