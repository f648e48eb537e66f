"""Audits side by side: verdict, release check, accuracy and flip rate of each, and what every attribute does in it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlencode

import duckdb
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cfx.errors import UserError
from warehouse.explorer.site import Site
from warehouse.explorer.summaries import Summary
from warehouse.lens.connect import open_runs
from warehouse.lens.fetch import Row, fetch
from warehouse.lens.runs import NEWEST_FIRST
from warehouse.lens.wholeness import refuse_damaged
from warehouse.report.charts import Axis, axis_over
from warehouse.report.names import Names

MOST = 8  # audits side by side
LISTED = 200  # audits to choose from, the newest
RUNS = f"""
select run_id, name, started, config from runs where status = 'finished'
order by {NEWEST_FIRST}
"""
FLIPS = "select method, value, n from fr where run_id = $run order by method"
CLAIMS = """
select kind, name, class, intervention, low, high, verdict, n from findings where run_id = $run order by rank
"""
PAIRED = """
select attribute, change, low, high, n from changes where run_id = $run and base_id = $base
"""
EDITED = """
select attribute, change, low, high, n from edit_changes where run_id = $run and base_id = $base
"""
FLIPPED = "select pairs, change, low, high from flip_changes where run_id = $run and base_id = $base"


class Column(NamedTuple):
    """One audit. claims: (kind, name, class) -> row of `findings`; against the first audit on the images that both have:
    changes by attribute, of explanations and of edits, and the change of the flip rate."""

    run: Row
    summary: Summary
    flips: list[Row]
    claims: dict[tuple[str, str, str], Row]
    changes: dict[str, Row]
    edited: dict[str, Row]
    flipped: Row | None


class Line(NamedTuple):
    """A claim over the audits."""

    kind: str
    name: str
    of: str
    cells: tuple[Row | None, ...]


def routes(site: Site) -> list[Route]:
    def page(request: Request) -> Response:
        every = {row["run_id"]: row for row in fetch(site.lens.runs(), RUNS)}
        chosen = list(dict.fromkeys(request.query_params.getlist("run")))
        of_run: dict[str, Any] = {}
        if "run" in request.path_params:
            of_run["run"] = site.run(request.path_params["run"])
            chosen = [request.path_params["run"], *(name for name in chosen if name != request.path_params["run"])]
        if unknown := [name for name in chosen if name not in every]:
            raise UserError(f"there is no finished run {unknown[0]!r} in this warehouse")
        left_out = chosen[MOST:]
        columns = _columns(site, [every[name] for name in chosen[:MOST]]) if len(chosen) > 1 else []
        lines = lines_of(columns)
        return site.page(
            "explorer_compare.html.j2",
            **of_run,
            every=list(every.values())[:LISTED],
            chosen=chosen[:MOST],
            left_out=left_out,
            most=MOST,
            columns=columns,
            lines=lines,
            names=Names.of(columns[0].run) if columns else None,
            axis=_axis(lines),
            other_way="?" + urlencode([("run", name) for name in reversed(chosen[:MOST])]),
        )

    return [Route("/compare", page), Route("/runs/{run}/compare", page)]


def _columns(site: Site, runs: list[Row]) -> list[Column]:
    base = runs[0]["run_id"]
    with ThreadPoolExecutor(2) as readers:
        return list(readers.map(lambda run: _column(site, run, base), runs))


def _column(site: Site, run: Row, base: str) -> Column:
    run_id = run["run_id"]
    lens = site.lens.of(run_id)
    claims = {(row["kind"], row["name"], row["class"] or ""): row for row in fetch(lens, CLAIMS, run=run_id)}
    changes, edited, flipped = ({}, {}, None) if run_id == base else _paired(site, run_id, base)
    return Column(run, site.summaries.now(run_id), fetch(lens, FLIPS, run=run_id), claims, changes, edited, flipped)


def _paired(site: Site, run_id: str, base: str) -> tuple[dict[str, Row], dict[str, Row], Row | None]:
    """What changed from one audit to the other on the images that both have."""
    lens = open_runs(site.root, (run_id, base), sql=f"{PAIRED}; {EDITED}; {FLIPPED}")
    refuse_damaged(lens, run_id, base)
    try:
        found = [fetch(lens, sql, run=run_id, base=base) for sql in (PAIRED, EDITED, FLIPPED)]
    except duckdb.Error:  # two audits of other data have not even the columns in common
        return {}, {}, None
    changes, edited, flipped = found
    return {row["attribute"]: row for row in changes}, {row["attribute"]: row for row in edited}, flipped[0] if flipped else None


def lines_of(columns: list[Column]) -> list[Line]:
    """Every claim that any audit does not clear, and each attribute of all of them, the strongest first."""
    keys = dict.fromkeys(key for column in columns for key in column.claims)
    lines = [Line(*key, tuple(column.claims.get(key) for column in columns)) for key in keys]

    def shown(line: Line) -> bool:
        return line.kind == "attribute" or any(cell and cell["verdict"] in ("confirmed", "suspected") for cell in line.cells)

    def strongest(line: Line) -> float:
        return max((abs(cell["intervention"] or 0) for cell in line.cells if cell), default=0)

    return sorted(filter(shown, lines), key=lambda line: (line.kind != "attribute", line.kind, -strongest(line), line.name))


def _axis(lines: list[Line]) -> Axis:
    ends = (cell[end] for line in lines for cell in line.cells if cell for end in ("intervention", "low", "high"))
    return axis_over([end for end in ends if end is not None])
