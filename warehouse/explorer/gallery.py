"""The gallery of a run: its explanations beside facets, everything that is chosen in the address."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warehouse.explorer.facets import BINS, FEW, chips, facets, number_title, ways_out
from warehouse.explorer.run_table import RunTable
from warehouse.explorer.selection import VIEWS, Selection, selection_of
from warehouse.explorer.site import Site
from warehouse.lens.fetch import Row

PAGE = 36  # explanations a page
PICTURES = {
    "hover": ("input", "counterfactual"),
    "pairs": ("input", "counterfactual"),
    "difference": ("difference", "counterfactual"),
}
SIGNS = {1: "+", -1: "−"}
MARKED = "select image_id, method, seed, list(distinct mark) as marks from marks where image_id is not null group by all"


def routes(site: Site) -> list[Route]:
    def gallery(request: Request) -> Response:
        table = site.tables.of(request.path_params["run"])
        chosen = selection_of(request.query_params.multi_items(), table)
        rows, count = (chosen.rows(table, PAGE), chosen.count(table)) if table.total else ([], 0)
        marked = {(row["image_id"], row["method"], row["seed"]): row["marks"] for row in table.fetch(MARKED)}
        return site.page(
            "explorer_gallery.html.j2",
            status=400 if chosen.problems else 200,
            run=table.run,
            total=table.total,
            chosen=chosen,
            chips=chips(table, chosen),
            facets=facets(table, chosen) if table.total else None,
            few=FEW,
            bins=BINS,
            views={view: chosen.viewed(view).address() for view in VIEWS},
            columns={name: number_title(table, name) for name in table.columns},
            count=count,
            cards=[_card(table, chosen, row, marked) for row in rows],
            ways_out=ways_out(table, chosen) if table.total and not count and not chosen.page else [],
            pages=_pages(chosen, -(-count // PAGE)),
            kept=pictures_kept(table),
        )

    return [Route("/runs/{run}/explanations", gallery)]


def pictures_kept(table: RunTable) -> bool:
    """Whether the run's configuration lets pictures be shown."""
    return json.loads(table.run["config"]).get("thumbnails") is not False


def page_of(run_id: str, row: Row, chosen: Selection) -> str:
    """The address of an explanation's own page, which keeps the selection."""
    keys = "/".join(quote(str(row[key]), safe="") for key in ("image_id", "method", "seed"))
    return f"/runs/{quote(run_id, safe='')}/explanations/{keys}{chosen.at(0).address()}"


def picture(run_id: str, kind: str, **asked: object) -> str:
    """The address of a picture."""
    return f"/runs/{quote(run_id, safe='')}/pictures/{kind}?{urlencode(asked)}"


def _card(table: RunTable, chosen: Selection, row: Row, marked: dict[tuple[str, str, int], list[str]]) -> Row:
    """What the grid shows of one explanation."""
    run_id, of_image = table.run["run_id"], {"image": row["image_id"], "small": 1}
    keys = of_image | {"method": row["method"], "seed": row["seed"]}
    moved = sorted((name for name in table.attributes if row[f"c_{name}"]), key=lambda name: -abs(row[f"d_{name}"]))
    shown = [(kind, picture(run_id, kind, **(of_image if kind == "input" else keys))) for kind in PICTURES[chosen.view]]
    return {
        "row": dict.fromkeys(table.left_out) | row,
        "address": page_of(run_id, row, chosen),
        "pictures": shown,
        "marks": marked.get((row["image_id"], row["method"], row["seed"]), []),
        "moved": [f"{SIGNS[row[f'c_{name}']]} {table.names(name)}" for name in moved],
    }


def _pages(chosen: Selection, count: int) -> list[tuple[str, str, bool]]:
    """Links to the first and last pages and those nearby: text, address, whether it is this one. A gap has no address."""
    near = sorted({page for page in (0, 1, *range(chosen.page - 2, chosen.page + 3), count - 2, count - 1) if 0 <= page < count})
    links: list[tuple[str, str, bool]] = []
    for before, page in zip([-1, *near], near, strict=False):
        if page - before > 1:
            links.append(("…", "", False))
        links.append((f"{page + 1:,}", chosen.at(page).address(), page == chosen.page))
    return links
