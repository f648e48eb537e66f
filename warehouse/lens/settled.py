"""What many questions about one run rest on, computed once: its tests, rankings and claims, whose bootstraps take longest.

A view is computed anew by every query that reads it. A report asks a dozen that read these, so its connection gets tables of its
own, which DuckDB finds before the views of the same names, also from within other views.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from warehouse.lens.fetch import literal

# Each builds on those before it. No view that is about one run reads another run's rows of these.
SETTLED = ("attribute_tests", "ranked_attributes", "interventions", "claims", "group_counts")
_LAID_OUT = "select view_name from duckdb_views() where schema_name = 'main'"


def settle(lens: duckdb.DuckDBPyConnection, run_ids: str | Sequence[str], more: Sequence[str] = ()) -> None:
    """Let this connection answer for this run, or for these, only, and faster: the views of SETTLED that are laid out on it.

    more: other views that will be read more than once.
    """
    of = ", ".join(map(literal, [run_ids] if isinstance(run_ids, str) else run_ids))
    there = {name for (name,) in lens.execute(_LAID_OUT).fetchall()}
    for name in (name for name in dict.fromkeys((*SETTLED, *more)) if name in there):
        lens.execute(f"create or replace temp table {name} as from main.{name} where run_id in ({of})")


def settle_for_all(lens: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """The same for a database of one's own (`open_runs`): every cursor of it finds the tables in place of the views."""
    for name in SETTLED:
        lens.execute(f"create table facts.settled_{name} as from main.{name} where run_id = $run", {"run": run_id})
        lens.execute(f"create or replace view {name} as from facts.settled_{name}")
