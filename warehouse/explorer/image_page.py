"""The page of one explanation: what changed and where, what else was tried on the image, its neighbours in the selection."""

from __future__ import annotations

import struct
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cfx.errors import UserError
from warehouse.explorer.gallery import PAGE, page_of, picture, pictures_kept
from warehouse.explorer.image_facts import Score, attributes, edits, other_explanations, places, probes
from warehouse.explorer.lenses import state_of
from warehouse.explorer.reviewer import reviewer_of
from warehouse.explorer.run_table import RunTable
from warehouse.explorer.selection import selection_of
from warehouse.explorer.shard_index import ShardIndex
from warehouse.explorer.site import Site
from warehouse.lens.connect import open_facts
from warehouse.lens.fetch import Row, fetch

ONE = "where image_id = $image and method = $method and seed = $seed"
RUNS = "select run_id, name from runs order by started desc, run_id limit 20"  # looked through for the same image
NUMBERS = ("l1", "l2", "linf", "mask_fraction", "attempt", "nfe_forward", "nfe_backward", "seconds", "device", "flipped_8bit")
PIXELATED = 200  # pixels: up to this side a picture is shown pixel by pixel
FEW = 8  # probes and places that are listed at once


def routes(site: Site) -> list[Route]:
    newest = NewestRuns(site.root)

    def explanation(request: Request) -> Response:
        run_id, index = request.path_params["run"], site.index
        table = site.tables.of(run_id)
        image_id, method, seed = keys = tuple(request.path_params[key] for key in ("image", "method", "seed"))
        named = dict(zip(("image", "method", "seed"), keys, strict=True))
        found = table.fetch(f"from shown {ONE}", **named) if table.total else []
        if not found:
            raise UserError(f"run {run_id} has no explanation of {image_id!r} by {method!r} with seed {seed}")
        row: Row = dict.fromkeys(table.left_out) | found[0]
        chosen = selection_of(request.query_params.multi_items(), table)
        near = chosen.around(table, row)
        pasted = places(index, run_id, image_id, table.grid) if table.grid else []
        return site.page(
            "explorer_explanation.html.j2",
            status=400 if chosen.problems else 200,
            run=table.run,
            row=row,
            chosen=chosen,
            near=near,
            here=page_of(run_id, row, chosen),
            previous=page_of(run_id, near.before, chosen) if near.before else None,
            next=page_of(run_id, near.after, chosen) if near.after else None,
            gallery=_gallery(run_id) + chosen.at((near.place - 1) // PAGE if near.place else 0).address(),
            pictures=_pictures(index, table, row),
            size=_size(index, run_id, image_id),
            pixelated=PIXELATED,
            scores=[Score(row[side], row[f"p_{side}"], row[f"p_{side}_cf"]) for side in ("source", "target")],
            attributes=attributes(table.attributes, row),
            edits=edits(index, run_id, image_id, table.run["classes"].index(row["target"])),
            probes=probes(index, run_id, image_id),
            places=pasted,
            strongest=max((abs(place.other) for place in pasted if place.other is not None), default=0),
            grid=table.grid,
            others=other_explanations(index, run_id, row, newest.runs()),
            measured=_measured(index, run_id, row),
            numbers={name: row[name] for name in NUMBERS if row.get(name) is not None},
            marks=table.fetch(f"from marks {ONE} order by reviewer", **named),
            few=FEW,
            picture=picture,
            reviewer=reviewer_of(request),
        )

    return [Route("/runs/{run}/explanations/{image}/{method}/{seed:int}", explanation)]


class NewestRuns:
    """The newest runs by name, read again when a run has begun or ended."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: tuple[object, list[Row]] = (None, [])

    def runs(self) -> list[Row]:
        """run_id and name of each, the newest first."""
        ids = sorted(folder.name.removeprefix("run_id=") for folder in (self._root / "facts" / "runs").glob("run_id=*"))
        state = state_of(self._root, ids, ("runs",))
        if self._known[0] != state:
            self._known = state, fetch(open_facts(self._root, ("runs",), RUNS), RUNS)
        return self._known[1]


def _gallery(run_id: str) -> str:
    return f"/runs/{quote(run_id, safe='')}/explanations"


def _pictures(index: ShardIndex, table: RunTable, row: Row) -> dict[str, str]:
    """The addresses of the pictures that there are, by kind."""
    if not pictures_kept(table):
        return {}
    run_id, image = table.run["run_id"], row["image_id"]
    keys = {"image": image, "method": row["method"], "seed": row["seed"]}
    shown = {"input": {"image": image}, "counterfactual": keys, "difference": keys}
    masks = index.rows("explanations", run_id, image, "method", "seed", "arm", "mask_png")
    if any(mask["mask_png"] for mask in masks):
        shown["mask"] = keys
    if index.rows("saliency", run_id, image, "map"):
        shown["saliency"] = {"image": image}
    return {kind: picture(run_id, kind, **asked) for kind, asked in shown.items()}


def _size(index: ShardIndex, run_id: str, image_id: str) -> tuple[int, int] | None:
    """Width and height of the image at audit size, from the head of its PNG."""
    png = next((row["png"] for row in index.rows("images", run_id, image_id, "png")), None)
    return struct.unpack(">II", png[16:24]) if png else None


def _measured(index: ShardIndex, run_id: str, row: Row) -> list[Row]:
    rows = index.rows("measurements", run_id, row["image_id"], "measure", "encoder", "value", "method", "seed")
    own = [found for found in rows if (found["method"], found["seed"]) == (row["method"], row["seed"])]
    return sorted(own, key=lambda found: (found["measure"], found["encoder"] or ""))
