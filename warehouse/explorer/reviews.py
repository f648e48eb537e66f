"""What people say of an audit's findings, kept as a fact: a row a mark, never changed; a person's last mark counts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import duckdb

from cfx.errors import UserError
from warehouse.facts.order import next_moment
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import open_warehouse
from warehouse.lens.fetch import fetch
from warehouse.lens.gate import check_run

MARKS = ("confirmed", "rejected", "out of distribution")
LONGEST = 2000  # characters of a note
EXPLANATION = "select 1 from explanations where run_id = $run and image_id = $image and method = $method and seed = $seed limit 1"
ATTRIBUTE = "select 1 from attribute_tests where run_id = $run and attribute = $attribute limit 1"


def review(
    root: Path,
    run_id: str,
    reviewer: str,
    mark: str,
    attribute: str | None = None,
    explanation: tuple[str, str, int] | None = None,
    note: str = "",
    lens: duckdb.DuckDBPyConnection | None = None,
) -> None:
    """Keep a mark on an attribute, or on an explanation (image_id, method, seed).

    lens: one that has the run, where it is open already: to open one takes longer than to keep a mark.
    Raises UserError for an unknown run, mark, attribute or explanation, a reviewer without a name, or a note that is too long.
    """
    if mark not in MARKS:
        raise UserError(f"mark: {mark!r} is not one of {', '.join(MARKS)}")
    if not reviewer.strip() or len(reviewer) > 100:
        raise UserError("reviewer: say who you are, in at most 100 characters")
    if len(note) > LONGEST:
        raise UserError(f"note: {len(note)} characters; at most {LONGEST} are kept")
    image_id, method, seed = explanation or (None, None, None)
    if lens is None:
        lens = open_warehouse(root, sql=f"from runs; {ATTRIBUTE if explanation is None else EXPLANATION}")
    check_run(lens, root, run_id)
    if explanation is not None:
        known = fetch(lens, EXPLANATION, run=run_id, image=image_id, method=method, seed=seed)
    else:
        known = fetch(lens, ATTRIBUTE, run=run_id, attribute=attribute)
    if not known:
        raise UserError(f"run {run_id} has no {'such explanation' if explanation else f'attribute {attribute!r}'} to review")
    row = {
        "written": next_moment(root, "reviews", run_id),
        "reviewer": reviewer.strip(),
        "mark": mark,
        "attribute": attribute if explanation is None else None,
        "image_id": image_id,
        "method": method,
        "seed": seed,
        "note": note,
    }
    key = hashlib.sha256(json.dumps(row, default=str).encode()).hexdigest()[:16]
    write_shard(root, "reviews", run_id, key, {name: [value] for name, value in row.items()})
