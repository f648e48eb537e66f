"""The explorer: server-rendered pages over one warehouse. It reads facts, and writes nothing but reviews and names."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from cfx.errors import UserError
from warehouse.explorer import (
    assets,
    compare_page,
    findings_page,
    forms,
    gallery,
    groups_page,
    image_page,
    pictures,
    review_queue,
    run_list,
    sql_page,
    trend_page,
)
from warehouse.explorer.headers import Headers
from warehouse.explorer.site import Site

PAGES = (run_list, gallery, image_page, findings_page, groups_page, compare_page, trend_page, sql_page, review_queue)
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def explorer(root: Path, hosts: tuple[str, ...] = LOOPBACK) -> Starlette:
    """The application. hosts: names that it answers to, so that no other site can reach it through a name of its own."""
    site = Site(root)
    routes = [route for part in (assets, pictures, forms, *PAGES) for route in part.routes(site)]
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=[*hosts], www_redirect=False)
    app = Starlette(routes=routes, middleware=[Middleware(Headers), trusted], exception_handlers={UserError: site.refused})
    app.state.summaries = site.summaries
    return app
