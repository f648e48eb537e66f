"""Pictures, each an answer of its own that the browser keeps: a page without them is small, and the next one has them already."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from cfx.errors import UserError
from warehouse.explorer.shard_index import ShardIndex
from warehouse.explorer.site import SAFE, Site
from warehouse.report.gallery import difference

THUMBNAIL = 256  # pixels: a larger picture is made smaller for the grid
# A shard is never changed, so neither is a picture; no longer than this, since a run may be pruned and audited anew.
HEADERS = SAFE | {"Cache-Control": "private, max-age=3600"}
MASK, SALIENCY = (176, 38, 255), (255, 106, 0)  # what they are laid over the image in

Address = Mapping[str, str]
_T = TypeVar("_T")


def routes(site: Site) -> list[Route]:
    def picture(request: Request) -> Response:
        run, kind, address = request.path_params["run"], request.path_params["kind"], request.query_params
        if kind not in KINDS:
            raise UserError(f"there is no picture {kind!r}; there are {', '.join(KINDS)}")
        shown = json.loads(site.tables.of(run).run["config"]).get("thumbnails") is not False
        png = KINDS[kind](site.index, run, address) if shown else None
        if png is None:
            return PlainTextResponse("not kept", status_code=404, headers=SAFE | {"Cache-Control": "no-store"})
        data, kind_of_file = _thumbnail(png) if address.get("small") == "1" else (png, "png")
        return Response(data, media_type=f"image/{kind_of_file}", headers=HEADERS)

    return [Route("/runs/{run}/pictures/{kind}", picture)]


def _input(index: ShardIndex, run: str, address: Address) -> bytes | None:
    return _first(row["png"] for row in index.rows("images", run, address.get("image", ""), "png"))


def _explained(column: str) -> Callable[[ShardIndex, str, Address], bytes | None]:
    def picture(index: ShardIndex, run: str, address: Address) -> bytes | None:
        rows = index.rows("explanations", run, address.get("image", ""), "method", "seed", "arm", column)
        asked = (address.get("method"), address.get("seed"), "guided")
        return _first(row[column] for row in rows if (row["method"], str(row["seed"]), row["arm"]) == asked)

    return picture


def _edited(column: str) -> Callable[[ShardIndex, str, Address], bytes | None]:
    def picture(index: ShardIndex, run: str, address: Address) -> bytes | None:
        image, attribute = address.get("image", ""), address.get("attribute")
        effects = index.rows("effects", run, image, "attribute", "edits")
        edits = _first(row["edits"] for row in effects if row["attribute"] == attribute)
        rows = index.rows("edits", edits, image, "attribute", column) if edits else []
        return _first(row[column] for row in rows if row["attribute"] == attribute)

    return picture


def _difference(index: ShardIndex, run: str, address: Address) -> bytes | None:
    x, x_cf = (_pixels(KINDS[kind](index, run, address)) for kind in ("input", "counterfactual"))
    return None if x is None or x_cf is None or x.shape != x_cf.shape else _png(difference(x, x_cf))


def _mask(index: ShardIndex, run: str, address: Address) -> bytes | None:
    """The mask as a colour that is there where the mask lets the picture change."""
    return _tinted(_explained("mask_png")(index, run, address), MASK)


def _saliency(index: ShardIndex, run: str, address: Address) -> bytes | None:
    """The first of an image's maps, as a colour that is the denser the more evidence is there."""
    maps = sorted(index.rows("saliency", run, address.get("image", ""), "map", "png"), key=lambda row: row["map"])
    return _tinted(_first(row["png"] for row in maps), SALIENCY)


KINDS: dict[str, Callable[[ShardIndex, str, Address], bytes | None]] = {
    "input": _input,
    "counterfactual": _explained("png"),
    "difference": _difference,
    "mask": _mask,
    "saliency": _saliency,
    "edit": _edited("png"),
    "sham": _edited("sham_png"),
    "pasted": _edited("pasted_png"),
}


def _first(found: Iterable[_T]) -> _T | None:
    return next(iter(found), None)


def _tinted(png: bytes | None, colour: tuple[int, int, int]) -> bytes | None:
    """A grey picture as a colour: black is transparent, white is opaque."""
    if (shown := _pixels(png)) is None:
        return None
    flat = np.broadcast_to(np.array(colour, np.uint8), shown.shape)
    return _png(np.dstack([flat, shown.max(axis=2)]))


def _pixels(png: bytes | None) -> NDArray[np.uint8] | None:
    if png is None:
        return None
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _thumbnail(png: bytes) -> tuple[bytes, str]:
    """The picture, a large one made smaller, and the kind of file that it is."""
    with Image.open(io.BytesIO(png)) as image:
        if max(image.size) <= THUMBNAIL:
            return png, "png"
        smaller = image.convert("RGB")
    smaller.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    smaller.save(file, "WEBP", quality=82, method=2)
    return file.getvalue(), "webp"
