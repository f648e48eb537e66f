"""The run's own row: its settings, with what code and weights, and what became of the images."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import platform
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from cfx.version import __version__
from tasks.advice.black_box_check import black_box_warnings
from tasks.advice.editor_check import editor_warnings
from tasks.advice.judge_check import judge_warnings
from tasks.run import Run
from warehouse.facts.order import STEP
from warehouse.facts.shards import Shard, find_shard, read_shard, shard_path, write_shard, written
from warehouse.lens.connect import open_facts, open_warehouse

COUNTS = """
    select
        (select count(*) from images where run_id = $run),
        (select count(distinct image_id) from explanations where run_id = $run and arm = 'guided'),
        (select count(distinct image_id) from explanations where run_id = $run and arm = 'guided' and flipped),
        (select count(*) from rejected where run_id = $run and stage <> 'regions')
"""
LAST = "select max(number), arg_max(run_id, started), max(started) from runs"
MOMENT = "%Y%m%dT%H%M%S%f"
COMPUTING = ("torch", "torchvision", "diffusers", "timm", "numpy", "scipy", "scikit-image", "scikit-learn", "pillow")
PACKAGES = ("torch", "torchvision", "diffusers", "duckdb", "pyarrow", "pandas", "numpy", "scipy", "prefect", "pydantic", "pillow")

_log = logging.getLogger("cfx.stages")


@cache
def code_version() -> str:
    """Version and a hash of every source file of cfx, tasks and warehouse, of the weights that come with them, and of the
    versions of the packages that compute: other code is another run, never a mixture. Builds of one version, for a CPU or a GPU,
    are alike.
    """
    home = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for package in ("cfx", "tasks", "warehouse"):
        for source in sorted((home / package).rglob("*")):
            if source.suffix in {".py", ".sql", ".safetensors"}:
                digest.update(source.read_bytes())
    for name in COMPUTING:
        digest.update(f"{name}=={importlib.metadata.version(name).partition('+')[0]}".encode())
    return f"{__version__}+{digest.hexdigest()[:12]}"


def hardware(device: str) -> str:
    """The device in words."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def facts_of(run: Run) -> dict[str, Any]:
    """The columns of `runs` that are known at the start."""
    config = run.config
    return {
        "name": config.name,
        "config": config.model_dump_json(),
        "config_hash": config.result_hash(),
        "fingerprints": json.dumps(dict(run.fingerprints)),
        "code_version": code_version(),
        "packages": package_versions(),
        "seeds": list(config.seeds),
        "hardware": hardware(run.device),
        "classes": list(run.classes),
        "target_attribute": config.target_attribute,
        "method": config.ladder[0].method,
        "margin": config.margin,
        "sample": run.sample,
        "warnings": list(run.warnings),
        "words": [one._asdict() for one in run.words] or None,
    }


def start_run(run: Run) -> Shard:
    """The first event of a run; a run that is resumed keeps its first start and its number, also where that event must be written
    again."""
    known = _times(run)
    counts = dict.fromkeys(("attempted", "explained", "flipped", "rejected"))
    began = min((row["started"] for row in known), default=None) or datetime.now(UTC)
    event = {"status": "started", "reason": None, "started": began, "finished": None}
    event["number"] = known[0].get("number") if known else _next_number(run)
    return write_shard(run.root, "runs", run.id, "started", _one(facts_of(run) | counts | event))


def _next_number(run: Run) -> int:
    """One more than the runs before this one have. Says so where one of them began in the future: no clock decides which run is
    the newest, but people read dates."""
    with closing(open_facts(run.root, ["runs"], LAST)) as lens:
        number, name, latest = lens.execute(LAST).fetchone() or (None, None, None)
    if latest is not None and latest > datetime.now(UTC):
        _log.warning(
            "run %s says that it began on %s, which is to come: this machine's clock is behind, or that one's was ahead; runs "
            "are kept in the order in which they began, but dates are wrong",
            name,
            f"{latest:%Y-%m-%d %H:%M} UTC",
        )
    return (number or 0) + 1


def heal(run: Run) -> None:
    """Make the events of a run whole, before any question about it is asked: of a failure when it was is its name, and why is
    lost; that it finished is written again at its end, if it is to be."""
    hurt = [key for key in _events(run) if find_shard(run.root, "runs", run.id, key) is None]
    for key in hurt:
        if key.startswith("failed"):
            (first,) = read_shard(start_run(run)).to_pylist()
            ended = datetime.strptime(key.partition("-")[2], MOMENT).replace(tzinfo=UTC)
            event = {"status": "failed", "reason": "why is lost: this record was damaged", "finished": ended}
            write_shard(run.root, "runs", run.id, key, _one(first | event))
        elif key != "started":
            shard_path(run.root, "runs", run.id, key).unlink()


def _events(run: Run) -> list[str]:
    """The keys of a run's events that were written, whole or not."""
    return [path.stem for path in written(run.root, "runs", run.id).get(run.id, [])]


def _next_moment(run: Run) -> datetime:
    """Now, or if a clock was ahead the moment after the run's last event: of events the last one written counts."""
    return max([datetime.now(UTC), *((row["finished"] or row["started"]) + STEP for row in _times(run))])


def _times(run: Run) -> list[dict[str, Any]]:
    """Each event of the run that is whole: when the run started and finished, and its number."""
    kept = (find_shard(run.root, "runs", run.id, key) for key in _events(run))
    return [row for event in kept if event is not None for row in read_shard(event).to_pylist()]


def finished(run: Run) -> datetime | None:
    """When this run was finished, if it was: the same classifier, data, settings and code were audited before."""
    ends = [key for key in _events(run) if key.startswith("finished")]
    done = find_shard(run.root, "runs", run.id, max(ends)) if ends else None
    return None if done is None else read_shard(done, ["finished"]).to_pylist()[0]["finished"]


def fail_run(run: Run, reason: str) -> Shard:
    """An event of a run that raised: its reason is one line. Another try may still finish the run."""
    (first,) = read_shard(start_run(run)).to_pylist()
    ended = _next_moment(run)
    event = {"status": "failed", "reason": reason, "finished": ended}
    return write_shard(run.root, "runs", run.id, f"failed-{ended:{MOMENT}}", _one(first | event))


def finish_run(run: Run) -> Shard:
    """The last event of a run: what became of its images. Written when every shard is there; again after a later failure,
    and where people call something by another name now."""
    events = set(_events(run))
    ends = sorted(event.partition("-")[2] for event in events if event.startswith("finished"))
    failures = sorted(event.partition("-")[2] for event in events if event.startswith("failed"))
    last = "finished" + (f"-{ends[-1]}" if ends and ends[-1] else "")
    done = find_shard(run.root, "runs", run.id, last) if ends else None
    now = _next_moment(run)
    if done is not None and not (failures and failures[-1] > _when(done)) and _labels_of(done) == run.config.labels:
        return done
    (first,) = read_shard(start_run(run)).to_pylist()
    first["config"] = run.config.model_dump_json()  # what people call things may be another than at the start: it is no result
    with open_warehouse(run.root, sql=COUNTS, runs=[run.id]) as lens:
        counts = lens.execute(COUNTS, {"run": run.id}).fetchone()
    assert counts is not None
    known = dict(zip(("attempted", "explained", "flipped", "rejected"), counts, strict=True))
    late = (*black_box_warnings(run), *judge_warnings(run), *editor_warnings(run))
    for warning in late:
        _log.warning("run=%s %s", run.id, warning)
    known["warnings"] = [*run.warnings, *late]
    key = "finished" if done is None else f"finished-{now:{MOMENT}}"
    return write_shard(run.root, "runs", run.id, key, _one(first | known | {"status": "finished", "finished": now}))


def _when(event: Shard) -> str:
    """When an event ended, as in the keys of events."""
    (row,) = read_shard(event, ["finished"]).to_pylist()
    return f"{row['finished']:{MOMENT}}"


def _labels_of(event: Shard) -> dict[str, str]:
    """What people called classes and attributes when an event was written; a run of an older version knows none."""
    (row,) = read_shard(event, ["config"]).to_pylist()
    labels: dict[str, str] = json.loads(row["config"]).get("labels") or {}
    return labels


def _one(row: dict[str, Any]) -> dict[str, list[Any]]:
    return {name: [value] for name, value in row.items()}


def package_versions() -> str:
    """JSON of the versions that produced a run."""
    return json.dumps({name: importlib.metadata.version(name) for name in PACKAGES})
