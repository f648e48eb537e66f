"""Of what probes and transplants made, the few images that the report shows are kept, as the classifier saw them."""

from __future__ import annotations

import io
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from cfx.evidence import transplant
from tasks.check import check
from tasks.config import AuditConfig
from tasks.run import Run
from tasks.sample import as_tensor
from tasks.stages.ingest import ingest
from tasks.stages.predict import predict
from tasks.stages.properties import measure_properties
from tasks.stages.run_record import finish_run, start_run
from tasks.stages.unnamed import look_beyond_names
from warehouse.lens.connect import open_warehouse, query
from warehouse.lens.settled import settle
from warehouse.report.pairs import ask_pictures, pairs_of
from warehouse.report.queries import EVIDENCE, evidence

N, SIDE = 28, 16


class Corner(nn.Module):
    """Answers by how bright the bottom right corner is, and a little by the whole image's warmth."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(6.0))

    def forward(self, x: Tensor) -> Tensor:
        corner, warmth = x[:, :, -3:, -3:].mean((1, 2, 3)), x[:, 0].mean((1, 2)) - x[:, 2].mean((1, 2))
        logit = self.scale * (corner + 2 * warmth)
        return torch.stack([-logit / 2, logit / 2], dim=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    for i in range(N):
        pixels = rng.normal(110, 12, (SIDE, SIDE, 3)) + rng.normal(0, 14) * np.array([1, 0, -1])
        pixels[-3:, -3:] = 210 if i % 2 else 40
        Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)).save(root / f"images/{i:02}.png")
    (root / "table.csv").write_text("file\n" + "".join(f"{i:02}.png\n" for i in range(N)))
    settings = {
        "name": "corner",
        "warehouse": root / "warehouse",
        "data": {"images": root / "images", "table": root / "table.csv", "size": SIDE},
        "classifier": {"module": f"{__name__}:Corner", "classes": ["dark", "light"]},
        "target": "second-best",
        "device": "cpu",
    }
    run = check(AuditConfig.model_validate(settings))
    start_run(run)
    images = ingest(run)
    predicted = [predict(run, shard) for shard in images]
    for shard in images:
        measure_properties(run, shard)
    look_beyond_names(run, images, predicted)
    finish_run(run)
    return run


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def light(run: Run, pngs: list[bytes]) -> list[float]:
    """What the classifier says of these pictures."""
    return run.probabilities(as_tensor(np.stack([pixels(png) for png in pngs])))[:, 1].tolist()


@pytest.mark.parametrize(
    ("fact", "column", "way"), [("probes", "moved_png", "direction"), ("transplants", "pasted_png", "other")]
)
def test_a_kept_picture_is_what_the_classifier_answered(run: Run, fact: str, column: str, way: str) -> None:
    rows: list[dict[str, Any]] = query(run.root, f"select * from facts.{fact} where {column} is not null").to_pylist()
    assert rows and len({row[way] for row in rows}) == 2
    assert light(run, [row[column] for row in rows]) == pytest.approx([row["p_after"] for row in rows], abs=1e-5)


def test_every_picture_that_the_report_shows_is_kept_and_no_other(run: Run) -> None:
    with closing(open_warehouse(run.root, sql=";".join(EVIDENCE.values()))) as lens:
        settle(lens, run.id)
        found = {name: evidence(lens, name, run.id) for name in ("pairs", "moved", "pasted")}
        pngs = ask_pictures(lens, run.id, found)
    claims = pairs_of(found, pngs)
    assert {(claim.kind, claim.name) for claim in claims} >= {("property", "warmth"), ("place", "bottom right")}
    assert all(frame.uri for claim in claims for pair in claim.pairs for frame in pair.frames)
    shown = {
        (frame.kind, pair.row["image_id"], claim.target, pair.row.get("property", pair.row.get("cell")))
        for claim in claims
        for pair in claim.pairs
        for frame in pair.frames
        if frame.kind != "input"
    }
    kept = {key for key in pngs if key[0] != "input"}
    assert shown <= kept and len([key for key in kept if key[0] in ("down", "up")]) <= 6 * len(claims)


def test_the_place_is_the_donors_and_the_rest_the_receivers(run: Run) -> None:
    (row,) = query(
        run.root, "from facts.transplants where pasted_png is not null and other order by image_id limit 1"
    ).to_pylist()
    images = {each["image_id"]: pixels(each["png"]) for each in query(run.root, "from facts.images").to_pylist()}
    weight = transplant.cells((SIDE, SIDE))[row["place"]]
    pasted = pixels(row["pasted_png"])
    assert (pasted[weight == 1] == images[row["donor_id"]][weight == 1]).all()
    assert (pasted[weight == 0] == images[row["image_id"]][weight == 0]).all()
