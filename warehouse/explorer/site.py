"""What every page of the explorer stands on: the warehouse, templates, headers, and the token of its forms."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs, quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from cfx.errors import UserError
from warehouse.explorer.headers import SAFE
from warehouse.explorer.lenses import Lenses
from warehouse.explorer.names import LONGEST as LONGEST_NAME
from warehouse.explorer.reviews import LONGEST, MARKS
from warehouse.explorer.run_table import RunTables
from warehouse.explorer.selection import plain
from warehouse.explorer.shard_index import ShardIndex
from warehouse.explorer.summaries import Summaries
from warehouse.lens.fetch import Row, fetch
from warehouse.report import formatting as wording
from warehouse.report.gallery import AMPLIFIED
from warehouse.report.names import Names
from warehouse.report.render import TEMPLATES

STRANGER = "This form is not from this explorer; load the page again."
LARGEST = 64 * 1024  # bytes of a form
SLOWEST = 10  # seconds in which a form has arrived


class Site:
    """One warehouse, and how its pages are made."""

    def __init__(self, root: Path) -> None:
        self.root, self.lens = root, Lenses(root)
        self.summaries = Summaries(root, self.lens)
        self.tables, self.index = RunTables(root), ShardIndex(root)
        self.token = secrets.token_urlsafe(24)  # a form of another site does not know it
        self.templates = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
        for name in ("signed", "number", "probability", "percent", "count", "moment", "slug", "points"):
            self.templates.filters[name] = getattr(wording, name)
        self.templates.filters["cell"] = lambda value: wording.number(value) if isinstance(value, float) else str(value)
        self.templates.filters["tick"] = lambda value, digits: f"{value:,.{digits}f}".replace("-", "−")
        self.templates.filters["plain"] = lambda value: "" if value is None else plain(value)
        self.templates.filters["path"] = lambda text: quote(str(text), safe="")

    def page(self, template: str, status: int = 200, **values: object) -> Response:
        """A page from a template. Nothing on it is kept by a browser after it was closed."""
        fixed: dict[str, object] = {
            "token": self.token,
            "known_marks": MARKS,
            "longest": LONGEST,
            "longest_name": LONGEST_NAME,
            "amplified": AMPLIFIED,
        }
        if "run" in values:
            fixed["names"] = Names.of(cast(Row, values["run"]))
        html = self.templates.get_template(template).render(fixed | values)
        return HTMLResponse(html, status_code=status, headers=SAFE | {"Cache-Control": "no-store"})

    def run(self, run_id: str) -> Row:
        """A run's row of `runs`. Raises UserError for one that is not there."""
        return fetch(self.lens.of(run_id), "from runs where run_id = $run", run=run_id)[0]

    async def form(self, request: Request) -> dict[str, list[str]] | None:
        """What a form of this explorer says; None for one of another site.

        Raises UserError for one that is too large or too slow.
        """
        body = b""
        try:
            async with asyncio.timeout(SLOWEST):
                async for part in request.stream():
                    body += part
                    if len(body) > LARGEST:
                        raise UserError(f"a form of more than {LARGEST} bytes is refused")
        except TimeoutError as error:
            raise UserError(f"the form had not arrived after {SLOWEST} s; send it again") from error
        form = parse_qs(body.decode(errors="replace"))
        known = secrets.compare_digest(form.get("token", [""])[0].encode(), self.token.encode())
        return form if known else None

    def stranger(self) -> Response:
        """The answer to a form of another site."""
        return self.page("explorer_refused.html.j2", status=403, reason=STRANGER)

    def refused(self, _: Request, error: Exception) -> Response:
        """The answer to a question that cannot be answered, with its reason."""
        return self.page("explorer_refused.html.j2", status=400, reason=str(error))
