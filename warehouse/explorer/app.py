"""The explorer: server-rendered pages over one warehouse. It reads facts, and writes nothing but reviews and names."""

from __future__ import annotations

import ipaddress
import secrets
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from cfx.errors import UserError
from warehouse.explorer.names import LONGEST as LONGEST_NAME
from warehouse.explorer.names import Marks, give_name
from warehouse.explorer.queries import OPERATORS, PAGE, Choice, Lens, columns, explanations
from warehouse.explorer.reviews import LONGEST, MARKS, review
from warehouse.lens.fetch import Row, fetch
from warehouse.lens.settled import settle
from warehouse.report import formatting as wording
from warehouse.report.cards import cards
from warehouse.report.gallery import AMPLIFIED, changes, frames
from warehouse.report.queries import evidence, image_rows, input_images
from warehouse.report.render import TEMPLATES, report_html

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
POLICY = "default-src 'none'; img-src data:; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
STRANGER = "This form is not from this explorer; load the page again."
LARGEST = 64 * 1024  # bytes of a form
RUNS = """
select runs.*, gate_verdicts.verdict from runs left join gate_verdicts using (run_id) order by started desc, run_id
"""
ONE = "where run_id = $run and image_id = $image and method = $method and seed = $seed"
LAST = 10**9  # page of a gallery, whatever an address says


def is_loopback(host: str) -> bool:
    """Whether a server on this host can be reached from this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def explorer(root: Path, hosts: tuple[str, ...] = LOOPBACK) -> Starlette:
    """The application. hosts: names that it answers to, so that no other site can reach it through a name of its own."""
    pages = Pages(root)
    routes = [
        Route("/", pages.runs),
        Route("/style.css", pages.style),
        Route("/runs/{run}", pages.run),
        Route("/runs/{run}/report", pages.report),
        Route("/runs/{run}/explanations/{image}/{method}/{seed:int}", pages.explanation),
        Route("/runs/{run}/reviews", pages.keep, methods=["POST"]),
        Route("/runs/{run}/names", pages.name, methods=["POST"]),
    ]
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=[*hosts], www_redirect=False)
    return Starlette(routes=routes, middleware=[trusted], exception_handlers={UserError: pages.refused})


class Pages:
    """One method a page."""

    def __init__(self, root: Path) -> None:
        self.root, self.lens = root, Lens(root)
        self.token = secrets.token_urlsafe(24)  # a form of another site does not know it
        self.templates = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
        for name in ("signed", "number", "probability", "percent", "count", "moment", "slug"):
            self.templates.filters[name] = getattr(wording, name)
        self.templates.filters["cell"] = lambda value: wording.number(value) if isinstance(value, float) else str(value)
        self.templates.filters["path"] = lambda text: quote(str(text), safe="")

    def runs(self, _: Request) -> Response:
        return self._page("explorer_runs.html.j2", runs=fetch(self.lens.cursor(), RUNS))

    def run(self, request: Request) -> Response:
        run, lens, address = request.path_params["run"], self.lens.cursor(), request.query_params
        known = columns(lens, run)
        settle(lens, run)
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
        carriers = evidence(lens, "carriers", run).rows
        pictured = input_images(lens, run, sorted({row["image_id"] for row in carriers}))
        return self._page(
            "explorer_run.html.j2",
            cards=cards(carriers, evidence(lens, "claims", run).rows, pictured),
            run=self._run(run),
            ranked=evidence(lens, "ranked", run).rows,
            predicted=evidence(lens, "predicted", run).rows,
            marks=evidence(lens, "marks", run).rows,
            agreement=evidence(lens, "agreement", run).rows,
            columns=known,
            operators=OPERATORS,
            chosen=chosen,
            shown=shown,
            count=count,
            pages=[self._address(chosen, number) for number in range(-(-count // PAGE))],
        )

    def explanation(self, request: Request) -> Response:
        run, lens = request.path_params["run"], self.lens.cursor()
        keys = {key: request.path_params[key] for key in ("image", "method", "seed")}
        image, method, seed = keys.values()
        outcomes = fetch(lens, f"from outcomes {ONE}", run=run, **keys)
        if not outcomes:
            raise UserError(f"run {run} has no explanation of {image!r} by {method!r} with seed {seed}")
        found = next(row for row in image_rows(lens, run, [image]) if (row["method"], row["seed"]) == (method, seed))
        names = sorted(name[2:] for name in found if name.startswith("d_") and found[name] is not None)
        return self._page(
            "explorer_explanation.html.j2",
            run=self._run(run),
            row=outcomes[0],
            frames=frames(*(found[key] for key in ("png", "png_cf", "mask_png", "map_png"))),
            attributes=[(name, found[f"p_{name}"], found[f"q_{name}"], found[f"d_{name}"]) for name in names],
            marks=fetch(lens, f"from marks {ONE} order by reviewer", run=run, **keys),
        )

    async def keep(self, request: Request) -> Response:
        """Keep one review."""
        if (form := await self._form(request)) is None:
            return self._page("explorer_refused.html.j2", status=403, reason=STRANGER)
        given = {key: values[0] for key, values in form.items()}
        run, seed = request.path_params["run"], given.get("seed", "")
        explanation = (given["image"], given.get("method", ""), int(seed)) if given.get("image") and seed.isdecimal() else None
        mark = (given.get("reviewer", ""), given.get("mark", ""), given.get("attribute"), explanation, given.get("note", ""))
        await run_in_threadpool(review, self.root, run, *mark)
        back = f"/runs/{quote(run, safe='')}"
        if explanation is not None:
            back += "/explanations/" + "/".join(quote(str(part), safe="") for part in explanation)
        return RedirectResponse(back + "#reviews", status_code=303)

    async def name(self, request: Request) -> Response:
        """Keep one name: the images that were ticked have it, the others that were shown have not."""
        if (form := await self._form(request)) is None:
            return self._page("explorer_refused.html.j2", status=403, reason=STRANGER)
        given = {key: values[0] for key, values in form.items()}
        run, has = request.path_params["run"], form.get("has", [])
        marks = Marks(has, [image_id for image_id in form.get("shown", []) if image_id not in has])
        claim = (given.get("kind", ""), given.get("claim", ""))
        called = given.get("name", "") if given.get("thing") == "1" else None
        await run_in_threadpool(give_name, self.root, run, given.get("reviewer", ""), claim, called, marks)
        return RedirectResponse(f"/runs/{quote(run, safe='')}#names", status_code=303)

    async def _form(self, request: Request) -> dict[str, list[str]] | None:
        """What a form of this explorer says; None for one of another site. Raises UserError for one that is too large."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST:
                raise UserError(f"a form of more than {LARGEST} bytes is refused")
        form = parse_qs(body.decode(errors="replace"))
        known = secrets.compare_digest(form.get("token", [""])[0].encode(), self.token.encode())
        return form if known else None

    def report(self, request: Request) -> Response:
        return HTMLResponse(report_html(self.root, request.path_params["run"]))

    def style(self, _: Request) -> Response:
        sheets = ("report.css", "explorer.css")
        return Response("\n".join((TEMPLATES / sheet).read_text("utf-8") for sheet in sheets), media_type="text/css")

    def refused(self, _: Request, error: Exception) -> Response:
        return self._page("explorer_refused.html.j2", status=400, reason=str(error))

    def _run(self, run_id: str) -> Row:
        found = fetch(self.lens.cursor(), "from runs where run_id = $run", run=run_id)
        if not found:
            raise UserError(f"there is no run {run_id!r} in this warehouse")
        return found[0]

    def _address(self, chosen: Choice, page: int) -> str:
        query = {name: value for name, value in vars(chosen).items() if name != "down"}
        return "?" + urlencode(query | {"page": page} | ({"down": 1} if chosen.down else {}))

    def _page(self, template: str, status: int = 200, **values: object) -> Response:
        fixed = {
            "token": self.token,
            "known_marks": MARKS,
            "longest": LONGEST,
            "longest_name": LONGEST_NAME,
            "amplified": AMPLIFIED,
        }
        html = self.templates.get_template(template).render(fixed | values)
        safe = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
        return HTMLResponse(html, status_code=status, headers=safe | {"Cache-Control": "no-store"})
