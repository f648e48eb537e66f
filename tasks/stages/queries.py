"""Black boxes at work: secrets come from the environment; calls and answers go to a ledger, and from there to `queries`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from threading import Lock

from pydantic import TypeAdapter

from cfx.classifiers import AnyClassifier, BlackBox, BlackBoxes, load_black_box, named
from cfx.classifiers.endpoint import EndpointConfig
from warehouse.facts.query_ledger import QueryLedger
from warehouse.facts.shards import find_shard, write_shard
from warehouse.facts.storage import cache_of

_CONNECTING = Lock()
_BLACK_BOXES: TypeAdapter[BlackBoxes] = TypeAdapter(BlackBoxes)


def black_box_for(config: BlackBoxes, device: str, answers: Path | None = None) -> BlackBox:
    """The black box of this configuration, connected to once a process.

    `answers` is the folder of its run's ledgers (see `answers_of`); None counts and remembers in memory.
    """
    with _CONNECTING:  # shards run side by side, and two connections would make twice as many calls at a time
        return _black_box(config.model_dump_json(), device, answers)


@cache  # by JSON, as classifiers in this process are
def _black_box(told: str, device: str, answers: Path | None) -> BlackBox:
    config = _BLACK_BOXES.validate_json(told)
    return load_black_box(config, _ledger(config, answers), _secret(config), device)


def answers_of(root: Path, run_id: str) -> Path:
    """The folder of a run's ledgers: in the warehouse, or, if that is an object store, in this machine's cache."""
    folder = root / "answers" / run_id
    return folder if isinstance(folder, Path) else cache_of(folder)


def write_queries(root: Path, run_id: str, configs: Iterable[AnyClassifier | None]) -> None:
    """Write the calls to a run's black boxes that are not yet among its facts: one more shard of `queries` a black box."""
    for config in configs:
        if config is None or config.access == "torch":
            continue
        answers = answers_of(root, run_id)
        if not _file(config, answers).is_file():
            continue
        tag, first = _tag(config), 1
        while shard := find_shard(root, "queries", run_id, f"{tag}-{first}"):
            first += shard.rows  # calls are numbered without gaps
        rows = _ledger(config, answers).calls(after=first - 1)
        if rows:
            n = len(rows["call"])
            write_shard(root, "queries", run_id, f"{tag}-{first}", rows | {"classifier": [named(config)] * n})


def _ledger(config: BlackBoxes, answers: Path | None) -> QueryLedger:
    return QueryLedger(None if answers is None else _file(config, answers), named(config), config.limits.budget)


def _file(config: BlackBoxes, answers: Path) -> Path:
    return answers / f"{_tag(config)}.sqlite"


def _tag(config: BlackBoxes) -> str:
    """What a black box's ledger is called: a hash of all that its answers depend on."""
    return hashlib.sha256(config.model_dump_json(exclude={"limits", "auth", "ca"}).encode()).hexdigest()[:10]


def _secret(config: BlackBoxes) -> str | None:
    auth = config.auth if isinstance(config, EndpointConfig) else None
    return None if auth is None else os.environ.get(auth.env)
