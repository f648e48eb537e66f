"""The few numbers by which a run is told and compared, for machines: accuracy, worst group, explained share, properties."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from warehouse.lens.fetch import Row, fetch
from warehouse.lens.gate import check_run
from warehouse.lens.listed_runs import open_run
from warehouse.lens.settled import settle

FIGURES = {
    "accuracy": "select value, low, high, n from accuracy where run_id = $run and label is null",
    "worst_group": """
        select label, attribute, present, known_by, value as accuracy, low, high, n
        from worst_groups where run_id = $run and rank = 1
    """,
    # Of several classes that of which the names explain least.
    "explained_share": """
        select class, share as value, low, high, ceiling, cleared, n
        from explained_share where run_id = $run order by share, class limit 1
    """,
    "properties": """
        select name, class, intervention as effect, low, high, n, verdict
        from findings where run_id = $run and kind = 'property' and verdict in ('confirmed', 'suspected') order by rank
    """,
}


def key_figures(root: Path, run_id: str) -> Row:
    """accuracy, worst_group and explained_share, each with 95 % interval and n, or None where the run has none; properties:
    the confirmed and suspected ones, strongest first, each with what moving it from low to high does to P(class).

    Raises UserError for an unknown run.
    """
    with closing(open_run(root, ";".join(("from runs", *FIGURES.values())), run_id)) as lens:
        check_run(lens, root, run_id)
        settle(lens, run_id)
        found = {name: fetch(lens, sql, run=run_id) for name, sql in FIGURES.items()}
    return {name: rows if name == "properties" else rows[0] if rows else None for name, rows in found.items()}
