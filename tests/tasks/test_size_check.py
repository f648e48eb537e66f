"""Images that are made smaller than what the classifier sees, and enlarged again, are warned of; others are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfx.classifiers import ClassifierConfig, load_classifier
from tasks.advice.size_check import blur_warnings
from tasks.data.ingest import DataConfig


@pytest.mark.parametrize(
    ("file", "size", "network", "wanted"),
    [
        (300, 64, {"input_size": 224}, 224),
        (300, 64, {"input_size": 224, "crop": 0.875}, 256),
        (300, [64, 96], {"input_size": 224}, 224),
        (100, 64, {"input_size": 224}, 224),
        (70, 64, {"input_size": 224}, None),  # hardly anything is lost
        (64, 64, {"input_size": 224}, None),  # the files have no more: production enlarges them, too
        (300, 224, {"input_size": 224}, None),
        (300, 256, {"input_size": 224, "crop": 0.875}, None),
        (300, 200, {"input_size": 224}, None),
        (300, 64, {}, None),  # it takes what it is given
    ],
)
def test_what_is_lost_is_said(tmp_path: Path, file: int, size: Any, network: dict[str, Any], wanted: int | None) -> None:
    (tmp_path / "images").mkdir()
    for i in range(3):
        Image.fromarray(np.full((file, file + 20, 3), 60 * i, np.uint8)).save(tmp_path / f"images/{i}.png")
    (tmp_path / "table.csv").write_text("file\n0.png\n1.png\n2.png\n")
    data = DataConfig(images=tmp_path / "images", table=tmp_path / "table.csv", size=size)
    module = {"module": "torchvision:shufflenet_v2_x0_5", "kwargs": {"num_classes": 2}, "classes": ("a", "b")}
    found = blur_warnings(load_classifier(ClassifierConfig.model_validate(module | network)), data)
    assert len(found) == (wanted is not None)
    if wanted is not None:
        assert f"most files have {file} or more" in found[0] and found[0].endswith(f"set `data.size: {wanted}`")
