"""What a person sees of a run in Prefect's UI: how far it is, what it found, where its report is, from what it was made.

Keys are `<audit's name>-<what>`, so that the UI shows one audit's scorecards one below the other, night after night.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.futures import PrefectFuture, as_completed

from tasks.reading.contact_sheet import strip
from warehouse.facts.shards import Shard
from warehouse.lens.connect import query

STEP = 5  # percent between two updates: each is a request to the server


def follow(name: str, futures: Sequence[PrefectFuture[Shard]]) -> list[Shard]:
    """Wait for every shard while a bar in the UI moves, then raise the first failure: one bad shard loses no other's work."""
    bar = cast(UUID, create_progress_artifact(0.0, key=f"{name}-progress", description="shards through their last stage"))
    told = 0.0
    for done, _ in enumerate(as_completed(list(futures)), 1):
        percent = 100 * done / len(futures)
        if percent - told >= STEP or done == len(futures):
            update_progress_artifact(bar, percent)
            told = percent
    return [future.result() for future in futures]


def publish(name: str, root: Path, run_id: str, report: Path, facts: dict[str, Any]) -> None:
    """Scorecard, report, pictures and fingerprints of a finished run."""
    sql = "select metric, value, n from scorecard where run_id = $run order by metric"
    scores = query(root, sql, {"run": run_id}).to_pylist()
    create_table_artifact(scores, key=f"{name}-scorecard", description=f"scorecard of {run_id}")
    create_link_artifact(report.absolute().as_uri(), f"report of {run_id}", key=f"{name}-report")
    if (picture := strip(root, run_id)) is not None:
        url = "data:image/png;base64," + base64.b64encode(picture).decode()
        create_image_artifact(url, key=f"{name}-gallery", description="inputs above, counterfactuals below")
    made_of = {"run": run_id, "configuration": facts["config_hash"], "code": facts["code_version"]}
    made_of |= json.loads(facts["fingerprints"])
    lines = [f"| {what} | `{told}` |" for what, told in made_of.items() if told]
    create_markdown_artifact("\n".join(["| made of | |", "|---|---|", *lines]), key=f"{name}-fingerprints")
