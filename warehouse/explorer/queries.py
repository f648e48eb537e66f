"""What the explorer asks of a warehouse: runs, a page of explanations sorted and filtered by any column, one explanation."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from cfx.errors import UserError
from warehouse.lens.fetch import Row, fetch
from warehouse.lens.scans import identifier

PAGE = 24  # explanations a page
OPERATORS = {
    "is": "lower(cast({column} as varchar)) = lower($value)",
    "is not": "lower(cast({column} as varchar)) is distinct from lower($value)",
    "contains": "contains(lower(cast({column} as varchar)), lower($value))",
    "at least": "try_cast({column} as double) >= try_cast($value as double)",
    "at most": "try_cast({column} as double) <= try_cast($value as double)",
}
SHOWN = """
from (select * exclude (run_id) from outcomes where run_id = $run) o
left join (select * exclude (run_id, arm) from attributes where run_id = $run and arm = 'guided')
    using (image_id, method, seed)
"""


@dataclass(frozen=True)
class Choice:
    """How to look at a gallery, as the address says it."""

    sort: str = "l1"
    down: bool = False
    column: str = ""
    operator: str = "is"
    value: str = ""
    page: int = 0


def columns(lens: duckdb.DuckDBPyConnection, run_id: str) -> list[str]:
    """Every column that a gallery can be sorted and filtered by, those without any value left out."""
    found = fetch(lens, f"summarize select * {SHOWN}", run=run_id)
    return [row["column_name"] for row in found if row["null_percentage"] is None or row["null_percentage"] < 100]


def explanations(lens: duckdb.DuckDBPyConnection, run_id: str, chosen: Choice, known: list[str]) -> tuple[list[Row], int]:
    """One page of explanations and how many there are. Raises UserError for a column or operator that is none."""
    for column in filter(None, (chosen.sort, chosen.column)):
        if column not in known:
            raise UserError(f"there is no column {column!r}; there are {', '.join(known)}")
    if chosen.operator not in OPERATORS:
        raise UserError(f"there is no operator {chosen.operator!r}; there are {', '.join(OPERATORS)}")
    kept, values = "", {"run": run_id}
    if chosen.column:
        kept = "where " + OPERATORS[chosen.operator].format(column=identifier(chosen.column))
        values["value"] = chosen.value
    (counted,) = fetch(lens, f"select count(*) as n {SHOWN} {kept}", **values)
    order = f"order by {identifier(chosen.sort)} {'desc' if chosen.down else 'asc'} nulls last, image_id, method, seed"
    page = f"limit {PAGE} offset {PAGE * chosen.page}"
    return fetch(lens, f"select * {SHOWN} {kept} {order} {page}", **values), int(counted["n"])
