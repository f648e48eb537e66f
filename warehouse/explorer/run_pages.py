"""The list of audits, and the page of one: its findings, reviews and what has no name yet."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from warehouse.explorer.site import Site
from warehouse.lens.settled import settle
from warehouse.report.cards import cards
from warehouse.report.queries import evidence, input_images
from warehouse.report.render import report_html


def routes(site: Site) -> list[Route]:
    def run(request: Request) -> Response:
        run, lens = request.path_params["run"], site.lens.cursor()
        found = site.run(run)
        settle(lens, run)
        carriers = evidence(lens, "carriers", run).rows
        pictured = input_images(lens, run, sorted({row["image_id"] for row in carriers}))
        return site.page(
            "explorer_run.html.j2",
            run=found,
            cards=cards(carriers, evidence(lens, "claims", run).rows, pictured),
            ranked=evidence(lens, "ranked", run).rows,
            predicted=evidence(lens, "predicted", run).rows,
            marks=evidence(lens, "marks", run).rows,
            agreement=evidence(lens, "agreement", run).rows,
        )

    def report(request: Request) -> Response:
        return HTMLResponse(report_html(site.root, request.path_params["run"]))

    return [Route("/runs/{run}", run), Route("/runs/{run}/report", report)]
