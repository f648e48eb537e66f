"""An audit over its nights: each quantity a line, and what of the newest is an alarm."""

from __future__ import annotations

from typing import NamedTuple

import duckdb
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cfx.errors import UserError
from warehouse.explorer import plot
from warehouse.explorer.site import Site
from warehouse.lens.fetch import Row
from warehouse.report.formatting import moment
from warehouse.report.names import Names
from warehouse.trend.alarms import Trend, trend
from warehouse.trend.nights import Key

KINDS = {
    "accuracy": "Accuracy",
    "explained": "Explained share",
    "attribute": "Attributes",
    "property": "Properties",
    "place": "Places",
    "predicted": "Shares of the classes",
    "confidence": "Confidence",
    "measured": "Properties of the images",
}
DRAWN = 6  # lines of a kind; the others are named below them


class Line(NamedTuple):
    """One quantity: what it is, its last value, its line, and what of tonight is an alarm."""

    name: str
    of: str
    last: Row
    chart: plot.LineChart
    alarm: str | None


def routes(site: Site) -> list[Route]:
    def page(request: Request) -> Response:
        run = site.run(request.path_params["run"])
        error, found = "", None
        try:
            found = trend(site.root, run["run_id"])
        except (UserError, duckdb.Error) as refused:
            error = str(refused)
        drawn = lines_of(found, Names.of(run)) if found else {}
        return site.page("explorer_trend.html.j2", run=run, found=found, error=error, drawn=drawn, kinds=KINDS, most=DRAWN)

    return [Route("/runs/{run}/trend", page)]


def lines_of(found: Trend, names: Names) -> dict[str, list[Line]]:
    """The lines by kind, those with an alarm first, then those that moved most beside their own interval."""
    alarmed = {(alarm.change.kind, alarm.change.name, alarm.change.target or ""): str(alarm) for alarm in found.alarms}
    kinds: dict[str, list[tuple[float, Line]]] = {}
    for key, rows in found.series.items():
        values = [
            plot.Measured(_night(row), row["value"], row["low"], row["high"], key in alarmed and row["run_id"] == found.run_id)
            for row in rows
        ]
        ends = f"{rows[0]['started']:%Y-%m-%d}", f"{rows[-1]['started']:%Y-%m-%d}"
        chart = plot.line(values, [row["started"].timestamp() for row in rows], ends)
        called = names.row({"kind": key[0], "name": key[1], "class": key[2]})
        line = Line(called["name"], called["class"], rows[-1], chart, alarmed.get(key))
        kinds.setdefault(key[0], []).append((_moved(key, rows, alarmed), line))
    return {
        kind: [line for _, line in sorted(kinds[kind], key=lambda each: (-each[0], each[1].name))]
        for kind in KINDS
        if kind in kinds
    }


def _moved(key: Key, rows: list[Row], alarmed: dict[Key, str]) -> float:
    values = [row["value"] for row in rows]
    width = max((row["high"] - row["low"] for row in rows if row["low"] is not None), default=0) or 1
    return (max(values) - min(values)) / width + (1e6 if key in alarmed else 0)


def _night(row: Row) -> str:
    interval = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
    return f"{moment(row['started'])}: {row['value']:.3f}{interval}, {row['n']:,} images"
