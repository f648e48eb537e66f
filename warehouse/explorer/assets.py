"""The style and the scripts of the explorer's pages."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warehouse.explorer.site import SAFE, Site
from warehouse.report.render import TEMPLATES

SHEETS = ("report.css", "explorer.css", "gallery.css", "explorer_pages.css")
SCRIPTS = {"script.js": "explorer.js", "runs.js": "explorer_runs.js", "keys.js": "explorer_keys.js", "sql.js": "explorer_sql.js"}


def routes(_: Site) -> list[Route]:
    return [Route("/style.css", style), *(Route(f"/{name}", script) for name in SCRIPTS)]


def style(_: Request) -> Response:
    sheets = "\n".join((TEMPLATES / sheet).read_text("utf-8") for sheet in SHEETS)
    return Response(sheets, media_type="text/css", headers=SAFE)


def script(request: Request) -> Response:
    source = TEMPLATES / SCRIPTS[request.url.path.removeprefix("/")]
    return Response(source.read_text("utf-8"), media_type="text/javascript", headers=SAFE)
