"""The property stage: every image of a shard once, measured on what the classifier is shown; SQL over it is numpy's."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfx.evidence.properties import FILE_FACTS, PROPERTIES, properties
from cfx.portraits import write_portraits
from tasks.run import Run
from tasks.stages.ingest import ingest
from tasks.stages.predict import predict
from tasks.stages.properties import measure_properties
from tasks.stages.run_record import start_run
from tests.runs import run_of
from warehouse.facts.shards import read_shard
from warehouse.lens.connect import query

N = 12


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("properties")
    write_portraits(root / "data", N, seed=3)
    run = run_of(root, shard_size=5)
    start_run(run)
    for shard in ingest(run):
        predict(run, shard)
        measure_properties(run, shard)
    return run


def test_each_image_has_one_row_of_all_properties_of_its_pixels_and_its_file(run: Run) -> None:
    rows = query(run.root, "select p.*, path from properties p join images using (run_id, image_id) order by path").to_pylist()
    assert len(rows) == N
    for row in rows:
        path = run.config.data.images / row["path"]
        expected = properties(np.asarray(Image.open(path).convert("RGB")))
        assert {name: row[f"m_{name}"] for name in PROPERTIES} == pytest.approx(expected)
        assert row["m_aspect"] == 0 and row["m_pixels"] == 12
        assert row["m_bits_per_pixel"] == pytest.approx(math.log2(8 * path.stat().st_size / 64**2))
    assert {name[2:] for name in rows[0] if name.startswith("m_")} == {*PROPERTIES, *FILE_FACTS}


def test_associations_are_numpys(run: Run) -> None:
    sql = """select m_warmth as warmth, probabilities[2] as p, (label = 'smiling')::int as labelled
             from properties join predictions using (run_id, image_id) join images using (run_id, image_id)"""
    table = query(run.root, sql).to_pandas()
    (row,) = query(run.root, "from property_associations where property = 'warmth' and class = 'smiling'").to_pylist()
    assert (row["n"], row["mean"]) == (N, pytest.approx(table.warmth.mean()))
    assert row["r_answer"] == pytest.approx(np.corrcoef(table.warmth, table.p)[0, 1], abs=1e-6)
    assert row["r_label"] == pytest.approx(np.corrcoef(table.warmth, table.labelled)[0, 1], abs=1e-6)
    (constant,) = query(run.root, "from property_associations where property = 'aspect' and class = 'smiling'").to_pylist()
    assert (constant["sd"], constant["r_label"], constant["r_answer"]) == (0, None, None)


def test_what_is_too_small_to_measure_has_no_row(tmp_path: Path) -> None:
    write_portraits(tmp_path / "data", 3, seed=3)
    data = {"images": tmp_path / "data/images", "table": tmp_path / "data/attributes.csv", "label_column": "label", "size": 8}
    run = run_of(tmp_path, data=data)
    (shard,) = ingest(run)
    assert read_shard(measure_properties(run, shard)).num_rows == 0
