"""The gallery of a run: its explanations, sorted and filtered."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warehouse.explorer.queries import OPERATORS, PAGE, Choice, columns, explanations
from warehouse.explorer.site import Site
from warehouse.report.gallery import changes, frames
from warehouse.report.queries import image_rows

LAST = 10**9  # page of a gallery, whatever an address says


def routes(site: Site) -> list[Route]:
    def gallery(request: Request) -> Response:
        run, lens, address = request.path_params["run"], site.lens.cursor(), request.query_params
        known = columns(lens, run)
        page = address.get("page", "0")
        chosen = Choice(
            address.get("sort", "l1"),
            address.get("down") == "1",
            address.get("column", ""),
            address.get("operator", "is"),
            address.get("value", ""),
            min(int(page), LAST) if page.isdecimal() else 0,
        )
        rows, count = explanations(lens, run, chosen, known) if known else ([], 0)
        seen = {
            (row["image_id"], row["method"], row["seed"]): row for row in image_rows(lens, run, [row["image_id"] for row in rows])
        }
        shown = [
            (row, frames(*(found[key] for key in ("png", "png_cf", "mask_png", "map_png"))), changes(found))
            for row in rows
            if (found := seen.get((row["image_id"], row["method"], row["seed"])))
        ]
        return site.page(
            "explorer_gallery.html.j2",
            run=site.run(run),
            columns=known,
            operators=OPERATORS,
            chosen=chosen,
            shown=shown,
            count=count,
            pages=[_address(chosen, number) for number in range(-(-count // PAGE))],
        )

    return [Route("/runs/{run}/explanations", gallery)]


def _address(chosen: Choice, page: int) -> str:
    query = {name: value for name, value in vars(chosen).items() if name != "down"}
    return "?" + urlencode(query | {"page": page} | ({"down": 1} if chosen.down else {}))
