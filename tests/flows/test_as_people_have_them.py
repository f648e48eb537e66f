"""Classifiers and images as people have them, each audited end to end: what the classifier saw, and what came out, in facts."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.images import decode_png
from cfx.portraits import write_portraits
from flows.audit import run_audit
from tasks.config import AuditConfig
from tests.cfx.pretrained import write_pretrained
from warehouse.lens.connect import query

pytestmark = pytest.mark.slow
N = 4
LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
SHOWN = """
    select e.image_id, source, target, flipped, p_target, p_target_cf, i.png as png, e.png as png_cf, path, probabilities
    from facts.explanations e join facts.images i using (run_id, image_id) join facts.predictions using (run_id, image_id)
    where arm = 'guided' order by path
"""


def grain(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-12, 13, (size, size, 1))


class Bright(nn.Module):
    """Two logits of how bright the upper half of an image of one channel is; it takes images of one size only."""

    def __init__(self, channels: int = 3, side: int = 64) -> None:
        super().__init__()
        self.weight = nn.Conv2d(channels, 1, 1, bias=False)
        nn.init.constant_(self.weight.weight, 1 / channels)
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2:] == (self.side, self.side), "images of another size"
        log_odds = 30 * self.weight(x)[:, 0, : self.side // 2].mean((1, 2)) - 6
        return torch.stack([torch.zeros_like(log_odds), log_odds], dim=1)


def lay_out(folder: Path, size: int = 64, mode: str = "RGB") -> None:
    """Four portraits as files of this size and kind, larger ones with a texture finer than the bundled prior draws."""
    table = write_portraits(folder / "data", N, seed=5)
    with table.open() as lines:
        names = [row["file"] for row in csv.DictReader(lines)]
    for name in names:
        path = folder / "data/images" / name
        image = np.asarray(Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)).astype(int)
        if size > 64:
            image = (image + grain(size)).clip(0, 255)
        made = Image.fromarray(image.astype(np.uint8))
        if mode == "I;16":
            made = Image.fromarray((np.asarray(made.convert("L")).astype(np.uint16)) * 257)
        (made.convert("L") if mode == "L" else made).save(path)


def audited(folder: Path, classifier: dict[str, Any], size: int = 64, **data: Any) -> list[dict[str, Any]]:
    """Audit and return what was explained, a row an image."""
    settings = {
        "name": "trial",
        "warehouse": folder / "warehouse",
        "data": {"images": folder / "data/images", "table": folder / "data/attributes.csv", "size": size} | data,
        "classifier": {"classes": ["dark", "bright"]} | classifier,
        "prior": {"path": "portraits:prior"},
        "target": "second-best",
        "ladder": [{"method": "fastdime", "steps": 20, "tau": 8, "scale": 200, "l1": 0}],
        "measures": {"cout": False},
        "saliency": None,
        "workers": 1,
        "device": "cpu",
    }
    run_audit(AuditConfig.model_validate(settings))
    rows = query(folder / "warehouse", SHOWN).to_pylist()
    assert len(rows) == N and all(row["source"] != row["target"] for row in rows)
    return [row | {"x": decode_png([row["png"]])[0], "x_cf": decode_png([row["png_cf"]])[0]} for row in rows]


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def sides(rows: list[dict[str, Any]]) -> set[tuple[int, int]]:
    return {opened(row[name]).size for row in rows for name in ("png", "png_cf")}


def follows(rows: list[dict[str, Any]]) -> float:
    """By how much the probability of the target rose, on average."""
    return float(np.mean([row["p_target_cf"] - row["p_target"] for row in rows]))


def test_a_grey_network_on_grey_images(tmp_path: Path, prefect_server: dict[str, str]) -> None:
    lay_out(tmp_path, mode="L")
    rows = audited(tmp_path, {"module": f"{__name__}:Bright", "kwargs": {"channels": 1}, "mean": 0.5, "std": 0.5})
    own = Bright(channels=1)
    for row in rows:
        with torch.no_grad():
            expected = own((row["x"] * LUMA).sum(0, keepdim=True)[None]).softmax(1)[0]
        np.testing.assert_allclose(row["probabilities"], expected, atol=1e-5)
    assert sides(rows) == {(64, 64)} and follows(rows) > 0.05


def test_a_network_of_224_px_keeps_what_the_prior_of_64_px_cannot_draw(tmp_path: Path, prefect_server: dict[str, str]) -> None:
    lay_out(tmp_path, 224)
    rows = audited(tmp_path, {"module": f"{__name__}:Bright", "kwargs": {"side": 224}}, size=224)
    assert sides(rows) == {(224, 224)} and follows(rows) > 0.05
    for row in rows:
        change = row["x_cf"] - row["x"]
        inside = (row["x_cf"].abs() < 0.9).all(0)  # near black and white it is cut off
        before, after = (grain_in(image, inside) for image in (row["x"], row["x_cf"]))
        assert change.abs().max() > 0.1
        assert before > 0.8 and abs(after / before - 1) < 0.05


def grain_in(image: Tensor, inside: Tensor) -> float:
    """How much of the grain that was put on an image (3, 224, 224) is in it, by least squares of what is fine."""
    known = torch.from_numpy(grain(224)[..., 0] / 127.5).float()[inside]
    fine = (image - avg_pool2d(image[None], 5, 1, 2, count_include_pad=False)[0]).mean(0)[inside]
    return float((fine * known).sum() / (known**2).sum()) / (1 - 1 / 25)


def test_images_of_28_px(tmp_path: Path, prefect_server: dict[str, str]) -> None:
    lay_out(tmp_path, 28)
    rows = audited(tmp_path, {"module": f"{__name__}:Bright", "kwargs": {"side": 28}}, size=28)
    assert sides(rows) == {(28, 28)} and follows(rows) > 0.05


def test_images_of_16_bits_are_what_they_are_in_8(tmp_path: Path, prefect_server: dict[str, str]) -> None:
    lay_out(tmp_path / "8", mode="L")
    lay_out(tmp_path / "16", mode="I;16")
    classifier = {"module": f"{__name__}:Bright"}
    rows = audited(tmp_path / "16", classifier, bits=16)
    assert {opened(path.read_bytes()).mode for path in (tmp_path / "16/data/images").iterdir()} == {"I;16"}
    for row in rows:
        grey = np.asarray(opened((tmp_path / "8/data/images" / row["path"]).read_bytes()))
        np.testing.assert_array_equal(np.asarray(opened(row["png"]).convert("L")), grey)
    assert sides(rows) == {(64, 64)} and follows(rows) > 0.05


def test_a_folder_of_hugging_face(tmp_path: Path, prefect_server: dict[str, str]) -> None:
    lay_out(tmp_path)
    folder = write_pretrained(tmp_path / "model", "resnet")
    rows = audited(tmp_path, {"weights": folder, "classes": None})
    (run,) = query(tmp_path / "warehouse", "select classes, fingerprints from runs").to_pylist()
    assert run["classes"] == ["cat", "dog", "fox"] and {row["source"] for row in rows} <= {"cat", "dog", "fox"}
    classifier = load_classifier(ClassifierConfig(weights=folder))
    for row in rows:
        with torch.no_grad():
            np.testing.assert_allclose(row["probabilities"], classifier(row["x"][None]).softmax(1)[0], atol=1e-5)
    assert sides(rows) == {(64, 64)}


def test_a_scripted_module(tmp_path: Path, prefect_server: dict[str, str]) -> None:
    lay_out(tmp_path)
    with pytest.warns(FutureWarning, match="torch.jit"):
        torch.jit.script(Bright().eval()).save(tmp_path / "scripted.pt")
    rows = audited(tmp_path, {"weights": tmp_path / "scripted.pt", "allow_pickle": True})
    for row in rows:
        with torch.no_grad():
            np.testing.assert_allclose(row["probabilities"], Bright()(row["x"][None]).softmax(1)[0], atol=1e-5)
    assert follows(rows) > 0.05
