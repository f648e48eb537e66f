"""What the explorer's forms write: reviews and names."""

from __future__ import annotations

from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from warehouse.explorer.names import Marks, give_name
from warehouse.explorer.reviews import review
from warehouse.explorer.site import Site


def routes(site: Site) -> list[Route]:
    async def keep(request: Request) -> Response:
        """Keep one review."""
        if (form := await site.form(request)) is None:
            return site.stranger()
        given = {key: values[0] for key, values in form.items()}
        run, seed = request.path_params["run"], given.get("seed", "")
        explanation = (given["image"], given.get("method", ""), int(seed)) if given.get("image") and seed.isdecimal() else None
        mark = (given.get("reviewer", ""), given.get("mark", ""), given.get("attribute"), explanation, given.get("note", ""))
        await run_in_threadpool(review, site.root, run, *mark)
        back = f"/runs/{quote(run, safe='')}"
        if explanation is not None:
            back += "/explanations/" + "/".join(quote(str(part), safe="") for part in explanation)
        return RedirectResponse(back + "#reviews", status_code=303)

    async def name(request: Request) -> Response:
        """Keep one name: the images that were ticked have it, the others that were shown have not."""
        if (form := await site.form(request)) is None:
            return site.stranger()
        given = {key: values[0] for key, values in form.items()}
        run, has = request.path_params["run"], form.get("has", [])
        marks = Marks(has, [image_id for image_id in form.get("shown", []) if image_id not in has])
        claim = (given.get("kind", ""), given.get("claim", ""))
        called = given.get("name", "") if given.get("thing") == "1" else None
        await run_in_threadpool(give_name, site.root, run, given.get("reviewer", ""), claim, called, marks)
        return RedirectResponse(f"/runs/{quote(run, safe='')}#names", status_code=303)

    return [Route("/runs/{run}/reviews", keep, methods=["POST"]), Route("/runs/{run}/names", name, methods=["POST"])]
