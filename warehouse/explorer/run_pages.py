"""The list of audits, and the page of one: its findings, reviews and what has no name yet."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from warehouse.explorer.headers import REPORT_POLICY
from warehouse.explorer.site import Site
from warehouse.report.cards import cards
from warehouse.report.queries import evidence, input_images
from warehouse.report.render import report_html


def routes(site: Site) -> list[Route]:
    def run(request: Request) -> Response:
        run = request.path_params["run"]
        lens = site.lens.of(run)
        found = site.run(run)
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
        policy = {"Content-Security-Policy": REPORT_POLICY, "Cache-Control": "no-store"}
        return HTMLResponse(report_html(site.root, request.path_params["run"]), headers=policy)

    return [Route("/runs/{run}", run), Route("/runs/{run}/report", report)]
