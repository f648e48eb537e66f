"""What a person sees of a run in Prefect's UI: how far it is, what it found, where its report is, from what it was made.

Keys are `<audit's name>-<what>`, so that the UI shows one audit's scorecards one below the other, night after night.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import UnfinishedRun
from prefect.futures import PrefectFuture, as_completed

from tasks.reading.contact_sheet import strip
from tasks.run import Run
from tasks.stages.run_record import code_version
from warehouse.facts.shards import Shard
from warehouse.lens.connect import query

PAUSE = 1.0  # seconds between two updates: each is a request to the server


def follow(name: str, futures: Sequence[PrefectFuture[Shard]]) -> list[Shard]:
    """Wait for every shard while a bar in the UI moves: one bad shard loses no other's work. Raises what went wrong first."""
    bar = cast(UUID, create_progress_artifact(0.0, key=f"{name}-progress", description="shards through their last stage"))
    shown = time.monotonic()
    for done, _ in enumerate(as_completed(list(futures)), 1):
        if time.monotonic() - shown >= PAUSE or done == len(futures):
            update_progress_artifact(bar, 100 * done / len(futures))
            shown = time.monotonic()
    return all_of(futures)


def all_of(futures: Sequence[PrefectFuture[Shard]]) -> list[Shard]:
    """Every shard. Raises the first failure of a stage's own, in the order of the futures: a stage that was not begun because one
    before it failed says only that.

    A future is asked for its result and never for its state, which the server may not know yet.
    """
    shards, failures = [], []
    for future in futures:
        try:
            shards.append(future.result())
        except Exception as error:  # whatever a stage raises
            failures.append(error)
    if failures:
        raise next((error for error in failures if not isinstance(error, UnfinishedRun)), failures[0])
    return shards


def publish(run: Run, report: Path) -> None:
    """Scorecard, report, images and fingerprints of a finished run."""
    name, root, run_id = run.config.name, run.root, run.id
    sql = "select metric, value, n from scorecard where run_id = $run order by metric"
    scores = query(root, sql, {"run": run_id}).to_pylist()
    create_table_artifact(scores, key=f"{name}-scorecard", description=f"scorecard of {run_id}")
    create_link_artifact(report.absolute().as_uri(), f"report of {run_id}", key=f"{name}-report")
    if (sheet := strip(root, run_id)) is not None:
        url = "data:image/png;base64," + base64.b64encode(sheet).decode()
        create_image_artifact(url, key=f"{name}-gallery", description="inputs above, counterfactuals below")
    made_of = {"run": run_id, "configuration": run.config.result_hash(), "code": code_version(), **run.fingerprints}
    lines = [f"| {what} | `{value}` |" for what, value in made_of.items() if value]
    create_markdown_artifact("\n".join(["| made of | |", "|---|---|", *lines]), key=f"{name}-fingerprints")
