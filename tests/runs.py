"""A `Run` for tests of single stages: its networks are the real ones, its data need not be there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.config import AuditConfig
from tasks.data.ingest import DataConfig
from tasks.networks import classifier_for, fingerprint, oracle_for
from tasks.run import Run
from tasks.stages.ingest import ingest
from tasks.stages.prior import prior_folder
from warehouse.facts.shards import Shard


def run_of(root: Path, run_id: str = "r1", **settings: Any) -> Run:
    """An audit of the bundled networks with these settings, kept under this id in the warehouse `root`."""
    data = {"images": root / "data/images", "table": root / "data/attributes.csv", "label_column": "label"}
    bundled = {
        "name": "trial",
        "warehouse": root,
        "data": data,
        "classifier": {"weights": "portraits:planted"},
        "oracle": {"weights": "portraits:oracle"},
        "prior": {"path": "portraits:prior"},
        "device": "cpu",
    }
    config = AuditConfig.model_validate(bundled | settings)
    classifier = classifier_for(config.classifier, "cpu")
    prints: dict[str, str | None] = {"judge": None, "oracle": None, "prior": "p", "data": "d"}
    prints["classifier"] = fingerprint(classifier)
    if config.judge is not None:
        prints["judge"] = fingerprint(classifier_for(config.judge, "cpu"))
    if config.oracle is not None:
        prints["oracle"] = fingerprint(oracle_for(config.oracle, "cpu").network)
    prior = None if config.prior is None else prior_folder(root, config.prior, "")
    return Run(config, run_id, "cpu", classifier.classes, prints, prior)


def ingested(root: Path, data: DataConfig, shard_size: int) -> list[Shard]:
    """The shards of images that an audit of this data, called r, makes in a warehouse."""
    return ingest(run_of(root, "r", data=data, shard_size=shard_size))
