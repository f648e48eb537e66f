"""The findings of an audit: every claim in points with its verdict and the images that show it; what has no name yet gets one."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, urlencode

import duckdb
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from warehouse.explorer.headers import REPORT_POLICY
from warehouse.explorer.reviewer import reviewer_of
from warehouse.explorer.site import Site
from warehouse.lens.fetch import Row, fetch
from warehouse.report.cards import cards
from warehouse.report.charts import axis_over
from warehouse.report.queries import evidence, input_images
from warehouse.report.render import report_html

# The claims of `findings`, and the parts of the images that masks name, which are claims of the same kind.
CLAIMS = """
select kind, name, class, intervention, low, high, n, verdict, why, tied, given_name, rank
from findings where run_id = $run
union all by name
select 'part' as kind, segment as name, class, effect as intervention, low, high, n, verdict,
    if(len(attributes) > 0, 'what decides there has names: ' || array_to_string(attributes, ', '), null) as why, 1000 as rank
from segments where run_id = $run
order by rank, kind, name, class
"""
CHANGED = """
select name[3:] as attribute, count_if(change > 0)::int as added, count_if(change < 0)::int as removed
from (
    unpivot (select columns('^c_') from attributes where run_id = $run and arm = 'guided') on columns('^c_')
    into name name value change
)
group by name
"""
HELD = """
select name[3:] as property, quantile_cont(value, .75) as much, quantile_cont(value, .25) as little
from (unpivot (select columns('^m_') from properties where run_id = $run) on columns('^m_') into name name value value)
group by name
"""
KINDS = {
    "attribute": "Attributes",
    "property": "Properties of the image",
    "place": "Places in the image",
    "part": "Parts of the image",
}
HOW = {
    "attribute": "Adding only this",
    "property": "Moving only this from low to high",
    "place": "Exchanging only this place between images",
    "part": "Exchanging only this part between images",
}
OPEN = ("confirmed", "suspected", "fragile", "inconclusive", "not tested")  # shown at once; the others in a disclosure


class Link(NamedTuple):
    """Images that show a claim: what they are in words, and where they are shown."""

    words: str
    address: str


class Claim(NamedTuple):
    """A row of CLAIMS and the images that show it."""

    row: Row
    links: tuple[Link, ...]


def routes(site: Site) -> list[Route]:
    def page(request: Request) -> Response:
        run = request.path_params["run"]
        lens = site.lens.of(run)
        found = claims_of(lens, run)
        carriers = evidence(lens, "carriers", run).rows
        pictured = input_images(lens, run, sorted({row["image_id"] for row in carriers}))
        ends = (claim.row[end] for claim in found for end in ("intervention", "low", "high"))
        return site.page(
            "explorer_findings.html.j2",
            run=site.run(run),
            summary=site.summaries.now(run),
            claims={kind: [claim for claim in found if claim.row["kind"] == kind] for kind in KINDS},
            kinds=KINDS,
            how=HOW,
            open=OPEN,
            axis=axis_over([end for end in ends if end is not None]),
            cards=cards(carriers, evidence(lens, "claims", run).rows, pictured),
            predicted=evidence(lens, "predicted", run).rows,
            marks=[row for row in evidence(lens, "marks", run).rows if not row["explanation"]],
            attributes=sorted({claim.row["name"] for claim in found if claim.row["kind"] == "attribute"}),
            reviewer=reviewer_of(request),
        )

    def report(request: Request) -> Response:
        policy = {"Content-Security-Policy": REPORT_POLICY, "Cache-Control": "no-store"}
        return HTMLResponse(report_html(site.root, request.path_params["run"]), headers=policy)

    return [Route("/runs/{run}", page), Route("/runs/{run}/report", report)]


def claims_of(lens: duckdb.DuckDBPyConnection, run_id: str) -> list[Claim]:
    """Every claim of a run, those that stand first, each with links to the gallery."""
    changed = {row["attribute"]: row for row in fetch(lens, CHANGED, run=run_id)}
    held = {row["property"]: row for row in fetch(lens, HELD, run=run_id)}
    return [Claim(row, tuple(_links(run_id, row, changed, held))) for row in fetch(lens, CLAIMS, run=run_id)]


def _links(run_id: str, row: Row, changed: dict[str, Row], held: dict[str, Row]) -> list[Link]:
    name, here = row["name"], f"/runs/{quote(run_id, safe='')}"
    match row["kind"]:
        case "attribute" if name in changed:
            counts = (("added", changed[name]["added"]), ("removed", changed[name]["removed"]))
            shown = [Link(f"{way} in {n:,}", _gallery(here, changed=f"{way}:{name}")) for way, n in counts if n]
            return [
                *shown,
                Link("with it", _gallery(here, has=f"with:{name}")),
                Link("without", _gallery(here, has=f"without:{name}")),
            ]
        case "property" if name in held and held[name]["much"] > held[name]["little"]:
            much, little = (f"{held[name][side]:.6g}" for side in ("much", "little"))
            return [
                Link("most of it", _gallery(here, **{f"min.m_{name}": much, "sort": f"m_{name}", "down": "1"})),
                Link("least", _gallery(here, **{f"max.m_{name}": little, "sort": f"m_{name}"})),
            ]
    return []


def _gallery(here: str, **chosen: str) -> str:
    return f"{here}/explanations?{urlencode(chosen)}"
