"""What the explorer's forms write: reviews and names."""

from __future__ import annotations

from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from warehouse.explorer.names import Marks, give_name
from warehouse.explorer.reviewer import remember
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
        of_explanation = explanation is not None  # which needs none of the statistics that a run's lens computes as it opens
        lens = await run_in_threadpool(lambda: site.tables.of(run).lens() if of_explanation else site.lens.of(run))
        await run_in_threadpool(lambda: review(site.root, run, *mark, lens=lens))
        back = f"/runs/{quote(run, safe='')}"
        if explanation is not None:
            back += "/explanations/" + "/".join(quote(str(part), safe="") for part in explanation)
            if given.get("back", "").startswith(back + "?"):  # the same page with the selection that it was opened from
                back = given["back"]
        answer = RedirectResponse(back + "#reviews", status_code=303)
        remember(answer, given.get("reviewer", ""))
        return answer

    async def name(request: Request) -> Response:
        """Keep one name: the images that were ticked have it, the others that were shown have not."""
        if (form := await site.form(request)) is None:
            return site.stranger()
        given = {key: values[0] for key, values in form.items()}
        run, has = request.path_params["run"], form.get("has", [])
        marks = Marks(has, [image_id for image_id in form.get("shown", []) if image_id not in has])
        claim = (given.get("kind", ""), given.get("claim", ""))
        called = given.get("name", "") if given.get("thing") == "1" else None
        who = given.get("reviewer", "")
        await run_in_threadpool(lambda: give_name(site.root, run, who, claim, called, marks, site.lens.of(run)))
        answer = RedirectResponse(f"/runs/{quote(run, safe='')}#names", status_code=303)
        remember(answer, who)
        return answer

    return [Route("/runs/{run}/reviews", keep, methods=["POST"]), Route("/runs/{run}/names", name, methods=["POST"])]
