"""An audit of Portraits with an editor: nearly all flip, most of them in one pass, and the judge follows."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.audit import run_audit
from flows.demo import demo_config, lay_out
from tasks.config import AuditConfig
from warehouse.lens.connect import query
from warehouse.report.render import write_report


@pytest.mark.long
def test_most_portraits_are_explained_by_the_editor_and_the_ladder_takes_the_rest(tmp_path: Path) -> None:
    lay_out(tmp_path, 224)
    demo = demo_config(tmp_path, "planted", 224).model_dump()
    quick = {"interventions": {"attributes": 1, "images": 4}, "saliency": None, "ladder": "default", "editor": {}}
    run = run_audit(AuditConfig.model_validate(demo | quick))
    ways = {row["way"]: row for row in query(tmp_path / "warehouse", "from ways").to_pylist()}
    flipped, n = sum(row["flip_rate"] * row["n"] for row in ways.values()), sum(row["n"] for row in ways.values())
    assert ways["ladder"]["n"] == 96 and ways["editor"]["n"] >= 0.7 * 128
    assert ways["editor"]["flip_rate"] == 1.0 and ways["editor"]["judge_flip_rate"] >= 0.95
    assert n == 224 and flipped / n >= 0.98
    page = write_report(tmp_path / "warehouse", run).read_text(encoding="utf-8")
    assert "Two ways of drawing." in page and "By the editor" in page
