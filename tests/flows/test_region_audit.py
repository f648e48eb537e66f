"""Portraits explained inside eyes, mouth and background alone: the planted glasses are found in the eyes, and nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cfx.images import decode_png
from flows.config import load_config
from flows.demo import lay_out
from flows.in_process import audit_in_process
from tasks.check import check
from tests.example_scripts import EXAMPLES, script
from warehouse.evidence.verify import verify
from warehouse.lens.connect import query

N = 64
CHANGES = """
select region, attribute from region_shifts where run_id = $run and status = 'above null' and not is_answer order by region
"""


@pytest.mark.long
def test_the_planted_glasses_are_found_in_the_eyes_alone_and_nothing_in_the_background(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    settings = (EXAMPLES / "regions.yaml").read_text(encoding="utf-8").replace(
        "limit: 128", f"limit: {N}"
    ) + "interventions: {images: 0}\n"
    (tmp_path / "examples" / "regions.yaml").write_text(settings, encoding="utf-8")
    lay_out(tmp_path / "cfx-demo", N)
    assert script("regions.py").write_masks(tmp_path / "cfx-demo/portraits") == N
    (tmp_path / "cfx-demo/portraits/masks/mouth/00007.png").unlink()
    config = load_config(tmp_path / "examples" / "regions.yaml")
    run = audit_in_process(check(config))
    root = config.warehouse
    found = {row["region"]: row for row in query(root, "from regions where run_id = $run", {"run": run}).to_pylist()}
    assert {name: row["verdict"] for name, row in found.items()} == {
        "eyes": "relies", "mouth": "relies", "background": "unmoved",
    }  # fmt: skip
    assert found["mouth"]["flip_rate"] > found["eyes"]["flip_rate"] > 0.4 > 0.15 > found["background"]["flip_rate"]
    changes = [tuple(row.values()) for row in query(root, CHANGES, {"run": run}).to_pylist()]
    assert changes == [("eyes", "glasses"), ("mouth", "smile")]
    pictures = "select e.png, region_png, i.png as x from region_explanations e join images i using (run_id, image_id)"
    for row in query(root, pictures).to_pylist():
        x_cf, region, x = (decode_png([row[name]])[0] for name in ("png", "region_png", "x"))
        assert torch.equal(x_cf[region < 0], x[region < 0])
    rejected = query(root, "select path, reason, error from rejected where stage = 'regions'").to_pylist()
    assert rejected == [{"path": "00007.png", "reason": "no mask", "error": "region 'mouth': there is none"}]
    assert found["mouth"]["images"] == found["eyes"]["images"] - 1
    assert verify(root, run).sound
