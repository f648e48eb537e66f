"""Foreground against background: an audit with the user's masks says which of the two decides."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from flows.audit import run_audit
from tasks.config import AuditConfig
from warehouse.lens.connect import query

N, SIDE = 48, 32


class ByBackground(nn.Module):
    """A classifier of how bright it is around the disc: logits of dark and bright."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = 6 * x[:, :, ~torch.from_numpy(DISC)].mean((1, 2))
        return torch.stack([-bright, bright], 1)


DISC = np.hypot(*np.mgrid[-15.5:16, -15.5:16]) < 9


def lay_out(folder: Path) -> None:
    """Discs of any brightness on backgrounds of any; the label is neither. One image has no mask."""
    chance = np.random.default_rng(1)
    for part in ("images", "masks/subject"):
        (folder / part).mkdir(parents=True)
    with (folder / "table.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["file", "label"])
        for i in range(N):
            pixels = chance.normal(80 if i % 2 else 170, 8, (SIDE, SIDE))
            pixels[DISC] += chance.normal(0, 40)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"images/{i:02}.png")
            if i:
                Image.fromarray((DISC * 255).astype(np.uint8)).save(folder / f"masks/subject/{i:02}.png")
            table.writerow([f"{i:02}.png", ("dark", "bright")[i // 2 % 2]])


@pytest.mark.slow
def test_the_background_decides_and_the_subject_is_clear(tmp_path: Path, prefect_server: dict[str, str]) -> None:
    lay_out(tmp_path)
    settings: dict[str, Any] = {
        "name": "discs",
        "warehouse": tmp_path / "warehouse",
        "data": {"images": tmp_path / "images", "table": tmp_path / "table.csv", "label_column": "label", "size": SIDE},
        "classifier": {"module": "tests.flows.test_masks:ByBackground", "classes": ["dark", "bright"]},
        "masks": tmp_path / "masks",
    }
    run = run_audit(AuditConfig.model_validate(settings))
    found = {row["segment"]: row for row in query(tmp_path / "warehouse", "from segments").to_pylist()}
    assert set(found) == {"subject", "rest"}
    assert found["rest"]["verdict"] == "suspected" and found["rest"]["low"] > 0.5  # nothing was named, so it may decide
    assert found["rest"]["exchange_low"] > 0.5 and found["rest"]["exchange_n"] == N - 1 - 8
    assert found["subject"]["verdict"] == "clear" and abs(found["subject"]["effect"]) < 1e-6
    assert {row["n"] for row in found.values()} == {N - 1}
    (warned,) = query(tmp_path / "warehouse", "select warnings from runs")["warnings"].to_pylist()
    assert [one for one in warned if one.startswith("masks: 1 of 48 images tried have no 'subject', 00.png for one")]
    named = query(tmp_path / "warehouse", "select name from findings where kind = 'place' and verdict = 'suspected'")
    assert "rest" in named["name"].to_pylist()
    assert ">rest<" in (tmp_path / "warehouse" / "reports" / f"{run}.html").read_text()
