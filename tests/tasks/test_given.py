"""Images of any kind in memory become the same files and table."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from cfx.errors import UserError
from tasks.data.given import Given, given

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
CLASSES = ("cat", "dog")


class OfHuggingFace:
    """The rows and features of a dataset as `datasets` has them."""

    def __init__(self) -> None:
        self.features = {"label": SimpleNamespace(names=["cat", "dog"])}

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": Image.fromarray(PIXELS[index]), "label": index % 2}


def rows(found: Given) -> list[dict[str, str]]:
    with found.table.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (PIXELS, [0, 1, 0, 1]),
        (PIXELS.astype(np.float32) / 255, ["cat", "dog", "cat", "dog"]),
        (TENSOR, np.array([0, 1, 0, 1])),
        (list(TENSOR.float() / 255), torch.tensor([0, 1, 0, 1])),
        ([Image.fromarray(each) for each in PIXELS], pd.Series(["cat", "dog", "cat", "dog"])),
        (TensorDataset(TENSOR, torch.tensor([0, 1, 0, 1])), None),
        (DataLoader(TensorDataset(TENSOR, torch.tensor([0, 1, 0, 1])), batch_size=3, shuffle=True), None),
        (OfHuggingFace(), None),
    ],
    ids=["array", "floats", "tensor", "tensors", "PIL", "Dataset", "DataLoader", "Hugging Face"],
)
def test_every_kind_of_images_is_the_same_data(images: object, labels: object, tmp_path: Path) -> None:
    found = given(images, labels, {"collar": [True, None, 0, 1.0]}, CLASSES, tmp_path)
    assert found == given(PIXELS, [0, 1, 0, 1], {"collar": [1, None, 0, 1]}, CLASSES, tmp_path)
    assert (found.labelled, found.size) == (True, (8, 6))
    assert [row["label"] for row in rows(found)] == ["cat", "dog", "cat", "dog"]
    assert [row["collar"] for row in rows(found)] == ["1", "", "0", "1"]
    for row, pixels in zip(rows(found), PIXELS, strict=True):
        assert np.array_equal(np.asarray(Image.open(found.images / row["file"])), pixels)


def test_files_stay_where_they_are(tmp_path: Path) -> None:
    files = [tmp_path / "a" / "1.png", tmp_path / "b" / "2.png"]
    for path in files:
        path.parent.mkdir()
        Image.fromarray(PIXELS[0]).save(path)
    found = given(files, None, None, None, tmp_path / "warehouse")
    assert (found.images, found.labelled, [row["file"] for row in rows(found)]) == (tmp_path, False, ["a/1.png", "b/2.png"])
    assert not list((tmp_path / "warehouse").rglob("*.png"))


@pytest.mark.parametrize(
    ("images", "labels", "attributes", "said"),
    [
        (TENSOR.float() / 127.5 - 1, None, None, r"from -1 to 0.953; floats are 0 \(black\) to 1 \(white\)"),
        (PIXELS.astype(np.int64), None, None, "of int64; it takes uint8"),
        (PIXELS[..., :2], None, None, r"shape \(8, 6, 2\)"),
        (7, None, None, "int is none of what can be audited: a folder, a list of files"),
        ([], None, None, "there is none"),
        ([object()], None, None, "item 0 is a object, no image"),
        (PIXELS, [0, 1], None, "labels: 2 for 4 images"),
        (PIXELS, [0, 1, 2, 0], None, "there is no class 2; `classes` has 2 names"),
        (PIXELS, None, {"collar": [0, 1, 2, 0]}, "collar has the value 2"),
        (PIXELS, None, [0, 1, 0, 1], "give columns by name"),
        (["a.png", "a.png"], None, None, "a.png is in the list twice"),
    ],
)
def test_what_cannot_be_audited_is_named(images: object, labels: object, attributes: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        given(images, labels, attributes, CLASSES, tmp_path)
    assert not list(tmp_path.iterdir())
