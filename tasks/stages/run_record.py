"""The run's own row: what was asked for, with what code and weights, and what became of the images."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from cfx import __version__
from warehouse.facts.shards import Shard, find_shard, read_shard, write_shard
from warehouse.lens.connect import open_warehouse

PACKAGES = ("torch", "torchvision", "diffusers", "duckdb", "pyarrow", "pandas", "numpy", "scipy", "prefect", "pydantic", "pillow")


@cache
def code_version() -> str:
    """Version and a hash of every source file of cfx, tasks and warehouse: other code is another run, never a mixture."""
    home = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for package in ("cfx", "tasks", "warehouse"):
        for source in sorted((home / package).rglob("*")):
            if source.suffix in {".py", ".sql"}:
                digest.update(source.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"


def hardware(device: str) -> str:
    """The device in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def start_run(root: Path, run_id: str, facts: dict[str, Any]) -> Shard:
    """The first event of a run; a run that is resumed keeps its first start."""
    moment = datetime.now(UTC)
    counts = dict.fromkeys(("attempted", "explained", "flipped", "rejected"))
    return write_shard(
        root, "runs", run_id, "started", _one(facts | counts | {"status": "started", "started": moment, "finished": None})
    )


def finish_run(root: Path, run_id: str, started: Shard) -> Shard:
    """The last event of a run: what became of its images. Written once, when every shard is there."""
    done = find_shard(root, "runs", run_id, "finished")
    if done is not None:
        return done
    asked = """
        select
            (select count(*) from images where run_id = $run),
            (select count(distinct image_id) from explanations where run_id = $run and arm = 'guided'),
            (select count(distinct image_id) from explanations where run_id = $run and arm = 'guided' and flipped),
            (select count(*) from rejected where run_id = $run)
    """
    with open_warehouse(root, asked=asked) as lens:
        counts = lens.execute(asked, {"run": run_id}).fetchone()
    assert counts is not None
    (first,) = read_shard(started).to_pylist()
    told = dict(zip(("attempted", "explained", "flipped", "rejected"), counts, strict=True))
    return write_shard(
        root, "runs", run_id, "finished", _one(first | told | {"status": "finished", "finished": datetime.now(UTC)})
    )


def _one(row: dict[str, Any]) -> dict[str, list[Any]]:
    return {name: [value] for name, value in row.items()}


def package_versions() -> str:
    """JSON of the versions that produced a run."""
    return json.dumps({name: importlib.metadata.version(name) for name in PACKAGES})
