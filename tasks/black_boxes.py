"""Connections to black boxes: secrets come from the environment; calls and answers go to the ledger of a run."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cfx.classifiers import BlackBox, BlackBoxes, load_black_box, named
from cfx.classifiers.endpoint import EndpointConfig
from warehouse.facts.query_ledger import QueryLedger
from warehouse.facts.storage import cache_of


def connect(config: BlackBoxes, device: str, answers: Path | None = None) -> BlackBox:
    """The black box of this configuration.

    `answers` is the folder of its run's ledgers (see `answers_of`); None counts and remembers in memory.
    """
    return load_black_box(config, ledger_of(config, answers), _secret(config), device)


def answers_of(root: Path, run_id: str) -> Path:
    """The folder of a run's ledgers: in the warehouse, or, if that is an object store, in this machine's cache."""
    folder = root / "answers" / run_id
    return folder if isinstance(folder, Path) else cache_of(folder)


def ledger_of(config: BlackBoxes, answers: Path | None) -> QueryLedger:
    """The ledger of a black box: in the folder of its run's answers, or in memory."""
    return QueryLedger(None if answers is None else file_of(config, answers), named(config), config.limits.budget)


def file_of(config: BlackBoxes, answers: Path) -> Path:
    """Where a black box's ledger is, or will be."""
    return answers / f"{tag_of(config)}.sqlite"


def tag_of(config: BlackBoxes) -> str:
    """What a black box's ledger is called: a hash of all that its answers depend on."""
    return hashlib.sha256(config.model_dump_json(exclude={"limits", "auth", "ca"}).encode()).hexdigest()[:10]


def _secret(config: BlackBoxes) -> str | None:
    auth = config.auth if isinstance(config, EndpointConfig) else None
    return None if auth is None else os.environ.get(auth.env, "").strip()  # a file read into it ends in a newline
