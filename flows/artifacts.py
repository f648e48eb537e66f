"""What a person sees of a run in Prefect's UI: how far it is, what it found, where its report is, from what it was made.

Keys are `<audit's name>-<what>`, so that the UI shows one audit's scorecards one below the other, night after night.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
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

from flows.release import Release
from tasks.reading.contact_sheet import strip
from tasks.reading.gate import markdown_text
from tasks.run import Run
from tasks.stages.run_record import code_version
from warehouse.facts.shards import Shard
from warehouse.lens.fetch import Row
from warehouse.lens.gate import IN_WORDS
from warehouse.report.check_words import in_words
from warehouse.report.formatting import count, markdown_table, number, percent
from warehouse.report.metric_names import in_order
from warehouse.trend.alarms import Alarm

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


def publish(run: Run, release: Release) -> None:
    """Verdict, report, scorecard, images and fingerprints of a finished run."""
    show_release(release)
    name, root, run_id = release.audit, run.root, release.run_id
    if release.scores:  # of counterfactuals, which some audits do without
        create_table_artifact(scorecard(release), key=f"{name}-scorecard", description=f"scorecard of {run_id}")
    if (sheet := strip(root, run_id)) is not None:
        url = "data:image/png;base64," + base64.b64encode(sheet).decode()
        create_image_artifact(url, key=f"{name}-gallery", description="inputs above, counterfactuals below")
    made_of = {"run": run_id, "configuration": run.config.result_hash(), "code": code_version(), **run.fingerprints}
    lines = [f"| {what} | `{value}` |" for what, value in made_of.items() if value]
    create_markdown_artifact(
        "\n".join(["| made of | |", "|---|---|", *lines]), key=f"{name}-fingerprints", description="of what it was made"
    )


def show_release(release: Release) -> None:
    """The verdict of a run and the way to its report, on the flow run that this is called in."""
    name, run_id = release.audit, release.run_id
    create_markdown_artifact(verdict_page(release), key=f"{name}-verdict", description=release.message)
    key, about = f"{name}-report", f"the report of {run_id}"
    if release.link is not None:
        create_link_artifact(release.link, f"report of {run_id}", key=key, description=about)
    else:
        where = f"It is the file `{release.file}`. With the setting `report_url` a link stands here."
        create_markdown_artifact(where, key=key, description=about)


def show_alarms(name: str, alarms: Sequence[Alarm]) -> None:
    """What is other than in the nights before, where anything is."""
    if alarms:
        lines = [f"- {markdown_text(str(alarm))}" for alarm in alarms]
        create_markdown_artifact("\n".join(lines), key=f"{name}-trend", description="other than in the nights before")


def verdict_page(release: Release) -> str:
    """Markdown: the release check and its reasons, the verdict in words, the worst group, where the report is, every rule."""
    head = f"## Release check {IN_WORDS[release.gate.verdict]}"
    reasons = [f"- {markdown_text(release.names.text(reason))}" for reason in release.gate.reasons]
    said = [f"**{markdown_text(release.verdict.headline)}.**", *map(markdown_text, release.verdict.sentences[:2])]
    facts = [] if release.worst is None else [f"- Worst group: {markdown_text(group(release.names.row(release.worst)))}"]
    report = f"[open]({release.link})" if release.link is not None else f"the file `{release.file}`"
    facts += [f"- Report: {report}", f"- Run: `{release.run_id}`"]
    rules = markdown_table(
        ("result", "check"), [(IN_WORDS[rule["result"]], in_words(rule)) for rule in release.names.rows(release.gate.rules)]
    )
    parts = (head, "\n".join(reasons), "\n\n".join(said), "\n".join(facts), rules)
    return "\n\n".join(parts) + "\n"


def group(row: Row) -> str:
    """smiling without glasses: 60.0% right of 25 images"""
    who = f"{row['label']} {'with' if row['present'] else 'without'} {row['attribute']}"
    return f"{who}: {percent(row['value'])} right of {count(row['n'])} images"


def scorecard(release: Release) -> list[dict[str, str]]:
    """The scorecard as the report shows it: its measures' names, and numbers of three digits."""
    return [
        {
            "measure": entry.label,
            "metric": row["metric"],
            "method": row["method"],
            "value": percent(row["value"]) if entry.share else number(row["value"]),
            "n": count(row["n"]),
            "better": entry.better,
        }
        for row, entry in in_order(release.scores)
    ]
