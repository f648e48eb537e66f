"""What an audit did not look at, in words, from the view `layers` and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from warehouse.lens.catalog import view_sql
from warehouse.lens.fetch import Row, fetch

TITLES = {
    "images": "The images themselves",
    "labels": "Labels",
    "attributes": "Attributes by name",
    "counterfactuals": "Counterfactuals",
    "judge": "A second classifier",
    "masks": "Parts of the images",
}


def layers_of(config: str) -> list[Row]:
    """The rows that the view `layers` will have of a run with this configuration, as JSON, before there is one."""
    with duckdb.connect(":memory:", config={"threads": 1}) as lens:
        lens.execute("create table runs (run_id varchar, config varchar)")
        lens.execute(view_sql("layers"))
        return fetch(lens, "select unnest(layers_of($config), recursive := true)", config=config)


def left_out(layers: Iterable[Row]) -> list[Row]:
    """The layers that are known to be missing, with their titles."""
    return [row | {"title": TITLES[row["layer"]]} for row in layers if row["there"] is False]


def lines_of(layers: Iterable[Row]) -> list[str]:
    """One line for each layer that is missing: what it would tell, and the setting that adds it."""
    return [f"not looked at: {row['title'].lower()}; `{row['line']}` adds {row['adds']}" for row in left_out(layers)]
