"""Names that people give to what had none, kept as a fact: a row a name, never changed; the last one counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb

from cfx.errors import UserError
from warehouse.facts.order import next_moment
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import open_warehouse
from warehouse.lens.fetch import fetch
from warehouse.lens.gate import check_run

LONGEST = 60  # characters of a name
CLAIM = "select 1 from findings where run_id = $run and kind = $kind and name = $claim and kind <> 'attribute' limit 1"
TAKEN = "select distinct name from findings where run_id = $run and kind = 'attribute'"
KNOWN = "select image_id from images where run_id = $run"


class Marks(NamedTuple):
    """Images by their ids: those that have what is named, and those that have not."""

    has: Sequence[str]
    lacks: Sequence[str]


def give_name(
    root: Path,
    run_id: str,
    reviewer: str,
    claim: tuple[str, str],
    name: str | None,
    marks: Marks,
    lens: duckdb.DuckDBPyConnection | None = None,
) -> None:
    """Keep what a person calls a claim (kind, name) of `findings`; name: None for what is not a thing.

    lens: one that has the run, where it is open already: to open one takes longer than to keep a name.
    Raises UserError for an unknown run, claim or image, a name that is empty, too long or an attribute's already, a reviewer
    without a name, or an image that both has it and has not.
    """
    if not reviewer.strip() or len(reviewer) > 100:
        raise UserError("reviewer: say who you are, in at most 100 characters")
    called = None if name is None else " ".join(name.split())
    if called is not None and not 0 < len(called) <= LONGEST:
        raise UserError(f"name: say what it is in 1 to {LONGEST} characters, or that it is not a thing")
    if both := set(marks.has) & set(marks.lacks):
        raise UserError(f"image {min(both)} is marked as having it and as not having it")
    kind, known = claim
    lens = lens or open_warehouse(root, sql=f"from runs; {CLAIM}; {TAKEN}; {KNOWN}")
    check_run(lens, root, run_id)
    if not fetch(lens, CLAIM, run=run_id, kind=kind, claim=known):
        raise UserError(f"run {run_id} has no {kind} {known!r} to name")
    if called in {row["name"] for row in fetch(lens, TAKEN, run=run_id)}:
        raise UserError(f"name: {called!r} is an attribute of this run already; call this one something else")
    strangers = {*marks.has, *marks.lacks} - {row["image_id"] for row in fetch(lens, KNOWN, run=run_id)}
    if strangers:
        raise UserError(f"run {run_id} has no image {min(strangers)!r}")
    row = {
        "written": next_moment(root, "names", run_id),
        "reviewer": reviewer.strip(),
        "kind": kind,
        "claim": known,
        "name": called,
        "has": list(marks.has),
        "lacks": list(marks.lacks),
    }
    key = hashlib.sha256(json.dumps(row, default=str).encode()).hexdigest()[:16]
    write_shard(root, "names", run_id, key, {name: [value] for name, value in row.items()})
