"""The style and the script of the explorer's pages."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warehouse.explorer.site import SAFE, Site
from warehouse.report.render import TEMPLATES

SHEETS = ("report.css", "explorer.css", "gallery.css")


def routes(_: Site) -> list[Route]:
    return [Route("/style.css", style), Route("/script.js", script)]


def style(_: Request) -> Response:
    sheets = "\n".join((TEMPLATES / sheet).read_text("utf-8") for sheet in SHEETS)
    return Response(sheets, media_type="text/css", headers=SAFE)


def script(_: Request) -> Response:
    return Response((TEMPLATES / "explorer.js").read_text("utf-8"), media_type="text/javascript", headers=SAFE)
