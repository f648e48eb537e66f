"""Many classes, few images of each: what moves an image's own prediction is found, and the page of such a run can be read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tasks.check import check
from tasks.config import AuditConfig
from tasks.run import Run
from tasks.stages.ingest import ingest
from tasks.stages.predict import predict
from tasks.stages.properties import measure_properties
from tasks.stages.run_record import finish_run, start_run
from tasks.stages.unnamed import OWN, look_beyond_names
from warehouse.lens.connect import query
from warehouse.report.render import report_html

N, CLASSES, SIDE = 30, 40, 24


class Levels(nn.Module):
    """A class for each of 40 levels of brightness, and sure of it near the middle of the level."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.linspace(-1, 1, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return -3000 * (x.mean((1, 2, 3))[:, None] - self.levels) ** 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    for i in range(N):
        pixels = 60 + 4.5 * i + rng.integers(-8, 9, (SIDE, SIDE, 3))
        Image.fromarray(pixels.round().astype(np.uint8)).save(root / f"images/{i}.png")
    (root / "table.csv").write_text("file\n" + "".join(f"{i}.png\n" for i in range(N)))
    settings = {
        "name": "levels",
        "warehouse": root / "warehouse",
        "data": {"images": root / "images", "table": root / "table.csv", "size": SIDE},
        "classifier": {"module": f"{__name__}:Levels", "classes": [f"level {i}" for i in range(CLASSES)]},
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


def test_brightness_moves_it_and_the_mirror_does_not(run: Run) -> None:
    (most,) = query(run.root, "select max(n) as n from (select count(*) as n from predictions group by class)").to_pylist()
    assert most["n"] < 12, "no class has enough images to be looked at by itself"
    claims = {row["name"]: row for row in query(run.root, "from findings").to_pylist()}
    assert {row["class"] for row in claims.values()} == {OWN}
    assert claims["brightness"]["verdict"] == "fragile"
    (moved,) = query(run.root, "select down, up from facts.property_claims where property = 'brightness'").to_pylist()
    assert moved["down"] < -0.3 and moved["up"] < -0.3, "either way it becomes another class's"
    assert claims["mirror"]["verdict"] == "clear" and abs(claims["mirror"]["intervention"]) < 1e-5
    (before,) = query(
        run.root,
        "select max(abs(p_before - p)) as off from facts.probes join "
        "(select run_id, image_id, list_max(probabilities) as p from facts.predictions) using (run_id, image_id)",
    ).to_pylist()
    assert before["off"] < 1e-6, "each image is compared with what was said of it"
    assert query(run.root, "select count(*) as n from facts.transplants").to_pylist() == [{"n": 0}]


def test_its_page_shows_the_classes_predicted_and_misses_no_explanations(run: Run) -> None:
    page = report_html(run.root, run.id)
    classes = query(run.root, "select count(distinct class) as n from predictions").to_pylist()[0]["n"]
    assert f"The 12 most frequent of {classes} classes predicted, of {CLASSES}." in page
    assert "of an image&#39;s own prediction" in page and "no class is predicted for enough of the images" in page
    for words in ("have no explanation", "maskdime", "nothing explained yet", "No judge", "Drawing alone moves attributes"):
        assert words not in page.partition("<h2>Provenance")[0], words
    assert "so it draws no counterfactuals" in page and "none: no prior" in page and "none: no oracle" in page
