"""Maps are coloured where there is more than the margin and chance, and nowhere else."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from facts import place_rows, png
from PIL import Image

from warehouse.lens.fetch import Row
from warehouse.report.gallery import Pixels
from warehouse.report.maps import BLUE, FAINT, STRONG, PixelMap, changed, mean_map, opacity, place_maps, salient_beyond_mean


def rows_of(effects: dict[int, float], named: dict[int, list[str]] | None = None) -> list[Row]:
    columns = place_rows(effects, named)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def drawn(found: PixelMap) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found.uri.split(",")[1]))).convert("RGB"))


def test_a_map_on_which_no_place_decides_has_no_colour() -> None:
    (found,) = place_maps(rows_of({0: 0.06, 1: 0.09, 2: -0.3}))
    assert found.cells == () and found.full == 0.5


def test_places_that_decide_are_coloured_on_a_fixed_scale_and_the_unnamed_ones_counted() -> None:
    (found,) = place_maps(rows_of({9: 0.25, 52: 0.2}, {52: ["smile"]}))
    assert [(cell.row, cell.column, cell.effect, cell.attributes) for cell in found.cells] == [
        (1, 1, 0.25, ""),
        (6, 4, 0.2, "smile"),
    ]
    assert [cell.opacity for cell in found.cells] == pytest.approx([FAINT + (STRONG - FAINT) * share for share in (0.5, 0.4)])
    assert (found.unnamed, found.full) == (1, 0.5)
    (stronger,) = place_maps(rows_of({9: 0.8}))
    assert stronger.full == 0.8 and stronger.cells[0].opacity == pytest.approx(STRONG)


def test_a_mean_map_colours_what_is_beyond_chance_and_no_more() -> None:
    x, values = np.full((10, 2, 2, 3), 100.0), np.zeros((10, 2, 2))
    values[:, 0, 0] = 0.4  # always
    values[:, 0, 1] = 0.005  # always, but too little to be seen
    values[0, 1, 0] = 1.0  # once: its mean, .1, is one standard error
    found = mean_map("a → b", x, values, full=0.2, least=0.01)
    assert (found.full, found.share, found.n) == (pytest.approx(0.4), 0.25, 10)
    ground = 140 + 0.45 * 100
    pixels = drawn(found)
    assert pixels[0, 0].tolist() == [round(ground + STRONG * (colour - ground)) for colour in BLUE]
    assert (pixels.reshape(-1, 3)[1:] == round(ground)).all()


def test_nothing_is_nothing() -> None:
    found = mean_map("a → b", np.full((5, 4, 4, 3), 10.0), np.zeros((5, 4, 4)), full=0.2, least=0.01)
    assert found.share == 0 and found.full == 0.2 and len(np.unique(drawn(found))) == 1


def test_a_change_is_that_beyond_the_null_and_evidence_that_beyond_the_mean() -> None:
    row = {"png": png(100), "png_cf": png(151), "png_null": png(110), "map": "grad_cam", "map_png": png(90)}
    values = changed(row)
    assert values is not None and values == pytest.approx(np.full((8, 8), (51 - 10) / 255))
    flat = salient_beyond_mean(row)
    assert flat is not None and flat == pytest.approx(np.zeros((8, 8))), "evidence everywhere is evidence nowhere"
    assert salient_beyond_mean(row | {"map_png": None}) is None
    assert opacity(0) == FAINT and opacity(2) == STRONG
