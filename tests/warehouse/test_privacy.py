"""What leaves a warehouse about persons: counterfactuals that copy a training picture are flagged, and thumbnails can be off."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from facts import image_ids, image_rows
from portrait_run import write_portrait_run

from tasks.reading.contact_sheet import strip
from warehouse.facts.shards import find_shard, read_shard, write_shard
from warehouse.lens.connect import query
from warehouse.report.render import report_html


def seen(ids: list[str], vectors: Any, arm: str | None) -> dict[str, Any]:
    n = len(ids)
    keys = {"method": [arm and "dime"] * n, "arm": [arm] * n, "seed": [None if arm is None else 0] * n}
    return keys | {"image_id": ids, "encoder": ["oracle"] * n, "vector": vectors.tolist()}


def test_a_counterfactual_that_copies_another_picture_is_flagged_and_one_like_its_own_input_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids, inputs = image_ids(80), rng.normal(size=(80, 16)).astype(np.float32)
    train = ["train" if i < 70 else "test" for i in range(80)]
    write_shard(tmp_path, "images", "r1", "0", image_rows(ids, split=train))
    write_shard(tmp_path, "features", "r1", "inputs", seen(ids, inputs, None))
    after = rng.normal(size=(80, 16)).astype(np.float32)
    after[0], after[1], after[2] = inputs[7] + 0.01, inputs[1], inputs[75]  # a training picture, its own input, a test picture
    write_shard(tmp_path, "features", "r1", "after", seen(ids, after, "guided"))
    rows = {row["image_id"]: row for row in query(tmp_path, "from near_copies").to_pylist()}
    assert len(rows) == 80
    assert {image_id for image_id, row in rows.items() if row["near_copy"]} == {ids[0]}
    assert rows[ids[0]]["nearest"] == ids[7]
    others = np.sort(np.linalg.norm(after[5] - np.delete(inputs[:70], 5, 0), axis=1))
    assert np.isclose(rows[ids[5]]["ratio"], others[0] / (others[:50].mean() / 2), rtol=1e-5)


def test_thumbnails_can_be_off(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "run", n=8, size=16)
    assert "data:image/webp" in report_html(tmp_path, "run") and strip(tmp_path, "run") is not None
    finished = find_shard(tmp_path, "runs", "run", "finished")
    assert finished is not None
    (row,) = read_shard(finished).to_pylist()
    finished.path.unlink()
    config = '{"thumbnails": false, ' + row["config"].lstrip()[1:]
    write_shard(tmp_path, "runs", "run", "finished", {name: [value] for name, value in (row | {"config": config}).items()})
    page = report_html(tmp_path, "run")
    assert "data:image/webp" not in page and strip(tmp_path, "run") is None
    assert re.search("<h2", page)
