from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from warehouse.report.gallery import AMPLIFIED, Change, changes, difference, frames, gallery, masked, salient


def png(value: int, side: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def opened(uri: str | None) -> Image.Image:
    assert uri and uri.startswith("data:image/webp;base64,")
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))


def test_difference_is_signed_amplified_and_grey_where_nothing_changed() -> None:
    x = np.array([[[100, 100, 100], [0, 255, 100]]], np.uint8)
    x_cf = np.array([[[100, 110, 90], [255, 0, 100]]], np.uint8)
    assert difference(x, x_cf).tolist() == [[[128, 128 + 10 * AMPLIFIED, 128 - 10 * AMPLIFIED], [255, 0, 128]]]


def test_small_pictures_keep_every_pixel_and_large_ones_shrink() -> None:
    assert np.asarray(opened(frames(png(37, 64), None, None, None).x)).tolist() == np.full((64, 64, 3), 37).tolist()
    assert opened(frames(None, png(37, 500), None, None).x_cf).size == (192, 192)


def test_sixteen_examples_of_noise_fit_in_five_megabytes() -> None:
    # Noise is the worst that a picture can be; an example has five pictures.
    noise, buffer = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8), io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    assert 16 * 5 * len(frames(buffer.getvalue(), None, None, None).x or "") < 4_500_000


def test_missing_pictures_are_absent_not_invented() -> None:
    only_cf = frames(None, png(1, 8), None, None)
    assert (only_cf.x, only_cf.mask, only_cf.difference) == (None, None, None)
    assert frames(png(1, 8), png(1, 9), None, png(1, 9)).difference is None


def test_saliency_is_laid_over_the_picture_in_orange() -> None:
    x, found = np.full((1, 2, 3), 200, np.uint8), np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    assert salient(x, found).tolist() == [[[230, 230, 230], [225, 85, 0]]]
    assert frames(png(1, 8), None, None, png(1, 9)).saliency is None


def test_the_mask_is_a_window_of_colour_with_an_orange_border() -> None:
    x, mask = np.full((5, 6, 3), (200, 40, 60), np.uint8), np.zeros((5, 6, 3), np.uint8)
    mask[1:4, 1:4] = 255
    shown = masked(x, mask)
    assert (shown[mask[..., 0] == 0] == 185).all(), "140 + .45 of the mean, 100"
    assert shown[2, 2].tolist() == [200, 40, 60]
    assert (shown == [225, 85, 0]).all(axis=2).sum() == 8
    assert (masked(x, np.full_like(mask, 255)) == x).all(), "all of it may change: no border"
    assert frames(png(1, 8), None, png(255, 9), None).mask is not None


def test_changes_cross_one_half_and_half_itself_is_below() -> None:
    crossed = {"p_a": 0.5, "q_a": 0.6, "d_a": 0.1, "p_b": 0.9, "q_b": 0.1, "d_b": -0.8}
    row = crossed | {"p_c": 0.1, "q_c": 0.5, "d_c": 0.4, "d_of_another_run": None}
    assert changes(row) == (Change("b", 0.9, 0.1), Change("a", 0.5, 0.6))


def test_an_image_without_a_row_in_images_is_named_by_its_hash() -> None:
    pick = {"pick": "best", "image_id": "0123456789abcdef", "seed": 0, "path": None}
    shown = {"image_id": "0123456789abcdef", "seed": 0, "png": None, "png_cf": png(1, 8), "mask_png": None, "map_png": None}
    groups = gallery([pick], [shown])
    assert [(group.kind, [example.file for example in group.examples]) for group in groups] == [
        ("random", []),
        ("best", ["0123456789ab"]),
        ("failed", []),
    ]
