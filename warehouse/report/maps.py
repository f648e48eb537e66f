"""Where in the image: maps over the mean of the audited images, in colour only where there is more than chance, and enough of it.

Three kinds: what each place decides (transplants, from the facts); what explanations change beyond their null, and where the
classifier finds evidence (both pixel by pixel, the mean over a sample of pictures).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from warehouse.lens.fetch import Row, fetch
from warehouse.report.gallery import Pixels, data_uri, pale, pixels_of
from warehouse.report.queries import input_images

INPUTS = 48  # images at most that the mean image is made of
SAMPLE = 24  # explanations of a direction at most that a mean map is made of
FEWEST = 5  # of which a mean can be told from chance
FULL = 0.5  # of P: what a place decides at full colour, or more where one decides more
FULL_CHANGE, LEAST_CHANGE = 0.2, 0.01  # of a pixel's range: the same of what is changed, and a change that cannot be seen
FULL_SALIENCY = 0.5  # of the image's most, beyond the image's mean
FAINT, STRONG = 0.25, 0.9  # opacity of the least that is coloured, and of the most
BLUE = (29, 79, 158)

Levels = NDArray[np.float64]  # (H, W)


class Cell(NamedTuple):
    """A place that decides: where it is, in cells; how opaque its colour is, 0 to 1; how far it moves the answer."""

    row: int
    column: int
    opacity: float
    effect: float
    unnamed: bool
    attributes: str


class PlaceMap(NamedTuple):
    """The places of one class over a grid x grid image: those that decide, and no others. full: the effect at full colour."""

    name: str
    grid: int
    framing: float
    full: float
    cells: tuple[Cell, ...]

    @property
    def unnamed(self) -> int:
        """Cells that decide for a reason without a name."""
        return sum(cell.unnamed for cell in self.cells)


class PixelMap(NamedTuple):
    """A mean over n explanations, drawn over their mean input; full: its value at full colour.

    share: of the pixels, how many are coloured; where it is 0 nothing stands out.
    """

    name: str
    uri: str
    full: float
    share: float
    n: int


class Maps(NamedTuple):
    """All maps of a run. mean: of `n` audited images, in pale grey, as a data URI; None where no picture is kept.

    changes: one a direction; saliency: one a class, by the method `saliency_map`. Of more than two classes both are of all.
    """

    mean: str | None
    n: int
    places: tuple[PlaceMap, ...]
    changes: tuple[PixelMap, ...]
    saliency: tuple[PixelMap, ...]
    saliency_map: str | None

    @property
    def any(self) -> bool:
        return bool(self.places or self.changes or self.saliency)


_INPUTS = "select image_id from images where run_id = $run order by md5(image_id) limit $most"
_CHOSEN = """
with guided as (
    select image_id, seed, source, target, len(classes) = 2 as two, md5(image_id || ':' || seed) as lot
    from admitted join (select run_id, classes from runs) using (run_id) where run_id = $run and arm = 'guided'
), ways as (
    select
        *, if(two, source || ' → ' || target, 'every class') as way, if(two, source, 'the class that is predicted') as class
    from guided
)
select image_id, seed, way, class from ways
qualify row_number() over (partition by way order by lot) <= $most order by way, lot
"""
_PICTURES = """
select x.image_id, x.seed, i.png, x.png as png_cf, u.png as png_null, s.map, s.png as map_png
from explanations x
join (select run_id, coalesce((config ->> 'thumbnails')::bool, true) as shown from runs) using (run_id)
join images i using (run_id, image_id)
left join (select * from explanations where arm = 'null') u using (run_id, image_id, method, seed)
left join (select run_id, image_id, min(map) as map, arg_min(png, map) as png from saliency group by all) s
    using (run_id, image_id)
where x.run_id = $run and x.arm = 'guided' and shown and i.png is not null and x.image_id in ({ids})
"""


def ask_maps(lens: duckdb.DuckDBPyConnection, run_id: str, places: Sequence[Row]) -> Maps:
    """The maps of a run. places: rows of EVIDENCE's `map`, in order of class."""
    ids = [row["image_id"] for row in fetch(lens, _INPUTS, run=run_id, most=INPUTS)]
    inputs = _alike([pixels_of(row["png"]) for row in input_images(lens, run_id, ids) if row["png"]])
    groups = list(_explained(lens, run_id))
    return Maps(
        data_uri(pale(inputs.mean(0)).repeat(3, axis=2).astype(np.uint8)) if len(inputs) else None,
        len(inputs),
        tuple(place_maps(places)),
        tuple(_mean_maps(groups, "way", changed, FULL_CHANGE, LEAST_CHANGE)),
        tuple(_mean_maps(groups, "class", salient_beyond_mean, FULL_SALIENCY, 0.0)),
        next((row["map"] for rows in groups for row in rows if row["map"]), None),
    )


def place_maps(places: Sequence[Row]) -> Iterator[PlaceMap]:
    """A map a class, from rows of `place_cells` in order of class."""
    for name, rows in ((name, list(rows)) for name, rows in groupby(places, key=lambda row: row["class"])):
        full = max(FULL, *(row["effect"] for row in rows))
        deciding = (row for row in rows if row["decides"])
        yield PlaceMap(name, rows[0]["grid"], rows[0]["framing"], full, tuple(_cell(row, full) for row in deciding))


def _cell(row: Row, full: float) -> Cell:
    y, x = divmod(row["place"], row["grid"])
    return Cell(y, x, opacity(row["effect"] / full), row["effect"], row["unnamed"], ", ".join(row["attributes"]))


def opacity(strength: float) -> float:
    """How opaque the colour is for a strength of 0 to 1."""
    return FAINT + (STRONG - FAINT) * min(1.0, max(0.0, strength))


def _explained(lens: duckdb.DuckDBPyConnection, run_id: str) -> Iterator[list[Row]]:
    """Per direction the explanations that a mean is made of, with their pictures: rows of _CHOSEN and _PICTURES."""
    chosen = fetch(lens, _CHOSEN, run=run_id, most=SAMPLE)
    if not chosen:
        return
    ids = {f"image_{i}": image_id for i, image_id in enumerate(sorted({row["image_id"] for row in chosen}))}
    sql = _PICTURES.format(ids=", ".join(f"${name}" for name in ids))
    pictures = {(row["image_id"], row["seed"]): row for row in fetch(lens, sql, run=run_id, **ids)}
    for _, rows in groupby(chosen, key=lambda row: row["way"]):
        yield [row | pictures[key] for row in rows if (key := (row["image_id"], row["seed"])) in pictures]


def _mean_maps(
    groups: Sequence[list[Row]], name: str, values_of: Callable[[Row], Levels | None], full: float, least: float
) -> Iterator[PixelMap]:
    for rows in groups:
        known = [(pixels_of(row["png"]), values) for row in rows if (values := values_of(row)) is not None]
        alike = [(x, values) for x, values in known if x.shape == known[0][0].shape]
        if len(alike) >= FEWEST:
            x, values = (np.stack(part).astype(np.float64) for part in zip(*alike, strict=True))
            yield mean_map(rows[0][name], x, values, full, least)


def mean_map(name: str, x: Levels, values: Levels, full: float, least: float) -> PixelMap:
    """The mean of `values` (N, H, W) over that of the images `x` (N, H, W, 3), from 0 to 255.

    Coloured is where it is `least` or more, and more than two standard errors over the N images above 0.
    """
    mean, error = values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))
    stands_out = (mean >= least) & (mean > 2 * error)
    most = max(full, float(mean.max()))
    alpha = np.where(stands_out, FAINT + (STRONG - FAINT) * (mean / most).clip(0, 1), 0)[..., None]
    ground = pale(x.mean(0))
    drawn: Pixels = (ground + alpha * (np.array(BLUE) - ground)).round().astype(np.uint8)
    return PixelMap(name, data_uri(drawn), most, float(stands_out.mean()), len(values))


def changed(row: Row) -> Levels | None:
    """How much more the guided explanation changes each pixel than its null, in shares of a pixel's range, (H, W)."""
    x, x_cf = pixels_of(row["png"]), pixels_of(row["png_cf"])
    if x.shape != x_cf.shape:
        return None
    null = _difference(x, pixels_of(row["png_null"])) if row["png_null"] else 0.0
    return _difference(x, x_cf) - null


def _difference(x: Pixels, other: Pixels) -> Levels:
    values: Levels = np.abs(x.astype(np.float64) - other).mean(2) / 255
    return values


def salient_beyond_mean(row: Row) -> Levels | None:
    """How much of the image's most evidence each pixel has beyond the image's mean, (H, W)."""
    if row["map_png"] is None or row["map"] is None:
        return None
    levels = pixels_of(row["map_png"])[..., 0] / 255
    return levels - levels.mean() if levels.shape == pixels_of(row["png"]).shape[:2] else None


def _alike(images: Sequence[Pixels]) -> Levels:
    """Those of the first one's size, (N, H, W, 3); N = 0 without any."""
    alike = [image for image in images if image.shape == images[0].shape]
    return np.stack(alike).astype(np.float64) if alike else np.zeros((0, 1, 1, 3))
