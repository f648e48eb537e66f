"""The page of one explanation."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cfx.errors import UserError
from warehouse.explorer.site import Site
from warehouse.lens.fetch import fetch
from warehouse.report.gallery import frames
from warehouse.report.queries import image_rows

ONE = "where run_id = $run and image_id = $image and method = $method and seed = $seed"


def routes(site: Site) -> list[Route]:
    def explanation(request: Request) -> Response:
        run, lens = request.path_params["run"], site.lens.cursor()
        keys = {key: request.path_params[key] for key in ("image", "method", "seed")}
        image, method, seed = keys.values()
        outcomes = fetch(lens, f"from outcomes {ONE}", run=run, **keys)
        if not outcomes:
            raise UserError(f"run {run} has no explanation of {image!r} by {method!r} with seed {seed}")
        found = next(row for row in image_rows(lens, run, [image]) if (row["method"], row["seed"]) == (method, seed))
        names = sorted(name[2:] for name in found if name.startswith("d_") and found[name] is not None)
        return site.page(
            "explorer_explanation.html.j2",
            run=site.run(run),
            row=outcomes[0],
            frames=frames(*(found[key] for key in ("png", "png_cf", "mask_png", "map_png"))),
            attributes=[(name, found[f"p_{name}"], found[f"q_{name}"], found[f"d_{name}"]) for name in names],
            marks=fetch(lens, f"from marks {ONE} order by reviewer", run=run, **keys),
        )

    return [Route("/runs/{run}/explanations/{image}/{method}/{seed:int}", explanation)]
