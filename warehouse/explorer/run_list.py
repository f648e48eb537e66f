"""The first page: every audit in a line, the newest first, by name of the audit where one is chosen."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warehouse.explorer.site import Site
from warehouse.lens.fetch import fetch
from warehouse.lens.runs import NEWEST_FIRST

PAGE = 50  # audits a page
PATIENCE = 0.3  # seconds that a page waits for summaries that are not there yet
LAST = 10**6
LISTED = f"""
select run_id, name, status, reason, started, finished, explained, len(warnings) as warnings, count(*) over () as n
from runs where $audit in ('', name)
order by {NEWEST_FIRST} limit $size offset $start
"""
DAMAGED = "select run_id, file, wrong, way_out from facts.damaged order by file"  # of what the list itself is made of
NAMES = "select name, count(*) as n from runs group by name order by name"


def routes(site: Site) -> list[Route]:
    def runs(request: Request) -> Response:
        audit, page = request.query_params.get("audit", ""), request.query_params.get("page", "0")
        number = min(int(page), LAST) if page.isdecimal() else 0
        lens = site.lens.runs()
        listed = fetch(lens, LISTED, audit=audit, size=PAGE, start=PAGE * number)
        known = site.summaries.of([row["run_id"] for row in listed if row["status"] == "finished"], PATIENCE)
        finished = sum(row["status"] == "finished" for row in listed)
        count = listed[0]["n"] if listed else 0
        return site.page(
            "explorer_runs.html.j2",
            runs=listed,
            known=known,
            awaited=finished - len(known),
            audit=audit,
            audits=fetch(lens, NAMES),
            damaged=fetch(lens, DAMAGED),
            count=count,
            page=number,
            pages=["?" + urlencode({"audit": audit, "page": i}) for i in range(-(-count // PAGE))],
        )

    return [Route("/", runs)]
