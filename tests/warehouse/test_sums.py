"""The sums that an audit writes down say what its rows say, in every view that reads them."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import Columns, Values, attribute_rows, explanation_rows, image_ids, image_rows, run_rows

from warehouse.facts.shards import Shard, write_shard
from warehouse.lens.connect import open_warehouse, query
from warehouse.lens.partial_sums import write_sums

NAMES = ["smile", "hat", "d_beard"]
VIEWS = ("attribute_sums", "annotation_sums", "buckets", "cd", "mnac", "ranked_attributes")


def write_shards(root: Path, run_id: str, target: str | None, shards: int = 3, n: int = 40) -> list[tuple[Shard, Shard, Shard]]:
    """A run of random changes, two seeds an image; in each shard one image lacks its null, and another is not annotated."""
    rng = np.random.default_rng(4)
    write_shard(root, "runs", run_id, "started", run_rows(target_attribute=target))
    written = []
    for shard in range(shards):
        ids, key = image_ids(n, shard), f"{shard:05}"
        known = {f"a_{name}": [None, *(rng.random(n - 1) < 0.5)] for name in NAMES}
        images = image_rows(ids, split=["train" if i % 3 else "test" for i in range(n)], **known)
        parts = [one_arm(rng, arm, seed, ids[arm == "null" :]) for arm in ("guided", "null") for seed in (0, 1)]
        sides = zip(*parts, strict=True)
        explained, attributes = ({name: joined(part[name] for part in side) for name in side[0]} for side in sides)
        written.append(
            (
                write_shard(root, "images", run_id, key, images),
                write_shard(root, "explanations", run_id, key, explained),
                write_shard(root, "attributes", run_id, key, attributes),
            )
        )
    return written


def one_arm(rng: np.random.Generator, arm: str, seed: int, ids: list[str]) -> tuple[Columns, Columns]:
    n = len(ids)
    ways = np.array(["no_smile", "smile"])[[int(image_id, 16) % 2 for image_id in ids]]
    explained = explanation_rows(
        ids, arm, target=ways, source=np.where(ways == "smile", "no_smile", "smile"), flipped=rng.random(n) < 0.7, seed=[seed] * n
    )
    before, after = ({name: rng.random(n) for name in NAMES} for _ in range(2))
    return explained, attribute_rows(ids, before, after, arm, seed)


def joined(parts: Iterable[Values]) -> list[Any]:
    return [value for part in parts for value in part]


@pytest.mark.parametrize("target", ["smile", None])
def test_every_view_answers_from_sums_as_from_rows(tmp_path: Path, target: str | None) -> None:
    shards = write_shards(tmp_path, "r1", target)
    for shard in shards[:2]:
        write_sums(tmp_path, *shard, target)
    half = {view: query(tmp_path, f"from {view} order by all") for view in VIEWS}  # one shard has none yet: all from rows
    write_sums(tmp_path, *shards[2], target)
    with open_warehouse(tmp_path) as lens, open_warehouse(tmp_path, from_rows=True) as rows:
        assert (
            lens.execute("select count(*) from facts.attribute_sums").fetchall()
            > rows.execute("select count(*) from facts.attribute_sums").fetchall()
            == [(0,)]
        )
        assert lens.execute("select count(*) from facts.unsummed_attributes").fetchall() == [(0,)]
        for view in VIEWS[2:]:
            told = lens.execute(f"from {view} order by all").fetchall()
            assert told == rows.execute(f"from {view} order by all").fetchall(), view
            assert [tuple(row.values()) for row in half[view].to_pylist()] == told, view
            assert (len(told) > 0) == (target is not None or view != "cd"), view


def test_the_benchmark_tells_rows_seconds_and_memory(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "warehouse.py"
    asked = [sys.executable, str(script), "--json", "--explanations", "2000", "--attributes", "4"]
    told = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    assert told["rows"] == 2000 and 0 < told["peak_gib"] < 4
    assert told["seconds"].keys() == told["cpu_seconds"].keys() == {"cd", "mnac", "ranked_attributes"}
