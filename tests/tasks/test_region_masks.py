"""Masks of regions: black and white PNGs of their image's size; all else is refused before work, with file and way out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from cfx.errors import UserError
from tasks.config import AuditConfig
from tasks.data.region_masks import ImageFile, check_masks, fingerprint, masks_of

BOX = np.zeros((24, 16), np.uint8)  # height 24, width 16
BOX[4:10, 2:9] = 255


def lay_out(folder: Path, n: int = 3) -> Path:
    """Images and their masks, in folders of the same names."""
    for part in ("images/a", "masks/a"):
        (folder / part).mkdir(parents=True)
    chance = np.random.default_rng(0)
    for i in range(n):
        Image.fromarray(chance.integers(0, 255, (24, 16, 3), np.uint8)).save(folder / f"images/a/{i}.jpg")
        Image.fromarray(BOX).save(folder / f"masks/a/{i}.png")
    return folder


def config_of(folder: Path, regions: Any = None, **data: Any) -> AuditConfig:
    settings: dict[str, Any] = {
        "data": {"images": folder / "images", "size": [24, 16]} | data,
        "classifier": {"weights": "portraits:planted"},
        "regions": {"box": folder / "masks"} if regions is None else regions,
    }
    return AuditConfig.model_validate(settings)


def changed(folder: Path, pixels: Any, name: str = "masks/a/0.png", **how: Any) -> None:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(folder / name, **how)


def test_a_mask_is_white_where_the_image_may_change(tmp_path: Path) -> None:
    config = config_of(lay_out(tmp_path))
    assert check_masks(config) == ()
    (masks,) = masks_of(config)
    mask = masks.of(ImageFile("a/1.jpg", 16, 24), (24, 16))
    assert isinstance(mask, torch.Tensor) and torch.equal(mask[0], torch.from_numpy(BOX > 0))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_black_and_white_is_told_whatever_the_file_calls_it(tmp_path: Path, mode: str) -> None:
    lay_out(tmp_path)
    deep = Image.fromarray(BOX.astype(np.uint16) * 257)
    changed(tmp_path, deep if mode == "I;16" else Image.fromarray(BOX).convert(mode))
    mask = masks_of(config_of(tmp_path))[0].of(ImageFile("a/0.jpg", 16, 24), (24, 16))
    assert isinstance(mask, torch.Tensor) and torch.equal(mask[0], torch.from_numpy(BOX > 0))


def test_a_photograph_that_is_turned_has_the_size_that_people_see(tmp_path: Path) -> None:
    lay_out(tmp_path)
    turned = Image.Exif()
    turned[0x0112] = 6  # by a quarter
    Image.fromarray(np.zeros((16, 24, 3), np.uint8)).save(tmp_path / "images/a/0.jpg", exif=turned)
    assert check_masks(config_of(tmp_path)) == ()


@pytest.mark.parametrize(
    ("pixels", "wrong", "way_out"),
    [
        (BOX // 255, "holds the value 1", "multiply it by 255"),
        (BOX // 2, "holds the value 127", "point(lambda v: 255"),
        (BOX[:12], "16 x 12 pixels and its image a/0.jpg 16 x 24", "resize it without smoothing"),
        (Image.fromarray(np.dstack([BOX] * 4)), "transparent", "save it as black and white"),
    ],
)
def test_what_is_no_mask_is_refused_with_its_file_and_the_way_out(tmp_path: Path, pixels: Any, wrong: str, way_out: str) -> None:
    changed(lay_out(tmp_path), pixels)
    with pytest.raises(UserError) as error:
        check_masks(config_of(tmp_path))
    said = str(error.value)
    assert said.startswith(f"box: the mask {tmp_path}/masks/a/0.png cannot be used: ") and wrong in said and way_out in said


@pytest.mark.parametrize("content", [b"no image", b"", "jpeg"])
def test_a_file_that_is_no_png_is_refused(tmp_path: Path, content: bytes | str) -> None:
    lay_out(tmp_path)
    if content == "jpeg":
        Image.fromarray(BOX).save(buffer := io.BytesIO(), "JPEG")
        content = buffer.getvalue()
    assert isinstance(content, bytes)
    (tmp_path / "masks/a/0.png").write_bytes(content)
    with pytest.raises(UserError, match=r"masks/a/0\.png cannot be used: it is no PNG"):
        check_masks(config_of(tmp_path))


def test_images_without_a_mask_that_can_be_used_are_told_and_the_others_go_on(tmp_path: Path) -> None:
    lay_out(tmp_path, 4)
    (tmp_path / "masks/a/0.png").unlink()
    changed(tmp_path, np.zeros_like(BOX), "masks/a/1.png")
    changed(tmp_path, np.full_like(BOX, 255), "masks/a/2.png")
    warned = check_masks(config_of(tmp_path))
    assert [line.partition(", a/")[0] for line in warned] == [
        "regions: 1 of 4 images looked at have no mask of 'box'",
        "regions: 1 of 4 images looked at have an empty mask of 'box'",
        "regions: 1 of 4 images looked at have a whole mask of 'box'",
    ]


def test_a_region_that_no_image_has_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path)
    (tmp_path / "others").mkdir()
    with pytest.raises(UserError, match=r"box: no image has a mask that can be used; of a/0\.jpg it would be .*others/a/0\.png"):
        check_masks(config_of(tmp_path, {"box": tmp_path / "others"}))
    with pytest.raises(UserError, match="box: there is no folder .*nowhere; give one"):
        check_masks(config_of(tmp_path, {"box": tmp_path / "nowhere"}))


def test_a_column_names_masks_below_the_images(tmp_path: Path) -> None:
    lay_out(tmp_path)
    (tmp_path / "masks").rename(tmp_path / "images/masks")
    (tmp_path / "table.csv").write_text("file,outline\na/0.jpg,masks/a/0.png\na/1.jpg,\na/2.jpg,masks/a/9.png\n")
    config = config_of(tmp_path, {"box": {"column": "outline"}}, table=tmp_path / "table.csv")
    assert check_masks(config) == (
        "regions: 2 of 3 images looked at have no mask of 'box', a/1.jpg for one; they take no part there",
    )
    mistyped = config_of(tmp_path, {"box": {"column": "outlin"}}, table=tmp_path / "table.csv")
    with pytest.raises(UserError, match="no column 'outlin'.*outline"):
        check_masks(mistyped)
    with pytest.raises(UserError, match="there is none; set `data.table`"):
        check_masks(config_of(tmp_path, {"box": {"column": "outline"}}))


def test_the_fingerprint_is_of_what_the_masks_hold(tmp_path: Path) -> None:
    config = config_of(lay_out(tmp_path))
    before = fingerprint(config)
    (tmp_path / "masks").rename(tmp_path / "elsewhere")
    assert fingerprint(config_of(tmp_path, {"box": tmp_path / "elsewhere"})) == before
    changed(tmp_path, BOX[::-1], "elsewhere/a/0.png")
    assert fingerprint(config_of(tmp_path, {"box": tmp_path / "elsewhere"})) != before
    assert fingerprint(config_of(tmp_path, {})) is None


@pytest.mark.parametrize(
    ("regions", "said"),
    [
        ({"box": {}}, "this one has nothing"),
        ({"box": {"saliency": 0.1, "segment": 0.1}}, "`saliency` and `segment`"),
        ({"rest": {"outside": "box"}}, "outside 'box', which is no region by itself; those are none"),
        ({"a": "masks", "rest": {"outside": "a"}, "b": {"outside": "rest"}}, "those are a"),
        ({" ": "masks"}, "is no name of a region"),
        ({"box": {"saliency": 1.0}}, "less than 1"),
    ],
)
def test_a_region_is_one_thing(tmp_path: Path, regions: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config_of(tmp_path, regions)
