"""Measuring and comparing, on portraits and the bundled networks: every row once, what is absent said, sets of known distance."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from portrait_run import CLASSES, write_portrait_run

from cfx.classifiers import ClassifierConfig
from cfx.metrics.frechet import Moments, frechet_distance
from cfx.oracle import OracleConfig
from cfx.pictures import decode_png
from tasks.autoencoders import AutoencoderTraining, ensure_autoencoders
from tasks.encoders import MeasureConfig, encoders_for
from tasks.measure import measure_shard
from tasks.sets import compare_sets
from warehouse.connect import query
from warehouse.shards import Shard, find_shard, read_shard, write_shard

N = 24
CLASSIFIER = ClassifierConfig(weights="portraits:planted", classes=tuple(CLASSES))
ORACLE = OracleConfig(weights="portraits:oracle")


def shard(root: Path, fact: str) -> Shard:
    found = find_shard(root, fact, "r1", "00000")
    assert found is not None
    return found


def measured(root: Path, config: MeasureConfig, seeds: int = 1) -> Shard:
    images, explained = shard(root, "images"), shard(root, "explanations")
    measurements = measure_shard(root, "r1", images, explained, config, CLASSIFIER, ORACLE, 7, "cpu")
    compare_sets(root, "r1", "dime", config, CLASSIFIER, ORACLE, seeds, "cpu")
    return measurements


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("measured")
    write_portrait_run(root, "r1", n=N, size=64)
    measured(root, MeasureConfig(insertion_deletion=True))
    return root


def test_every_guided_explanation_is_measured_once_and_every_picture_encoded(root: Path) -> None:
    rows = query(
        root, "select measure, encoder, count(*) as n, count(distinct image_id) as images from measurements group by all"
    )
    assert {(row["measure"], row["encoder"], row["n"], row["images"]) for row in rows.to_pylist()} == {
        *((measure, None, N, N) for measure in ("l1_sum", "l1_5", "sparsity", "cout", "cout_reference")),
        ("cosine", "oracle", N, N),
        ("insertion", "change", N, N),
        ("deletion", "change", N, N),
    }
    pictures = "select method is null as original, arm, count(*) as n from features group by all order by n, original"
    assert query(root, pictures).to_pylist() == [
        {"original": False, "arm": "guided", "n": N},
        {"original": True, "arm": None, "n": N},
    ]


def test_the_distances_agree_with_the_explanations(root: Path) -> None:
    apart = """
        select max(abs(m.value / (3 * 64 * 64) - l1)) as apart
        from measurements m join explanations using (run_id, image_id, method, arm, seed) where measure = 'l1_sum'
    """
    assert query(root, apart)["apart"][0].as_py() < 1e-6


def test_a_measured_shard_is_not_measured_again(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.parquet")}
    again = measured(root, MeasureConfig(insertion_deletion=True))
    assert again.rows == 8 * N
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.parquet")} == before


def test_what_is_absent_is_said_with_its_reason_and_nothing_stands_in(root: Path) -> None:
    absent = {row["metric"]: row["reason"] for row in query(root, "from absent").to_pylist()}
    assert absent["fid[inception]"] == "no weights: set measures.inception to a file of them"
    assert absent["fva[vggface2]"] == "no weights: set measures.vggface2 to a file of them"
    assert absent["diversity[vgg]"] == "one seed: give two or more in `seeds`"
    metrics = set(query(root, "select metric from scorecard")["metric"].to_pylist())
    assert not metrics & set(absent)
    assert {"fid[oracle]", "sfid[oracle]", "kid[oracle]", "crossover_fid[oracle]", "s3[oracle]", "cout", "l1_5"} <= metrics


def test_set_metrics_are_those_of_the_features_in_memory(root: Path) -> None:
    table = read_shard(shard(root, "explanations")).to_pylist()
    guided = [row for row in table if row["arm"] == "guided"]
    encode = encoders_for(MeasureConfig(), ORACLE, "cpu")["oracle"]
    originals = encode(decode_png(read_shard(shard(root, "images"))["png"].to_pylist()))
    flipped = encode(decode_png([row["png"] for row in guided if row["flipped"]]))
    (row,) = query(root, "from fid").to_pylist()
    assert (row["n"], row["n_real"]) == (len(flipped), N)
    assert row["value"] == pytest.approx(frechet_distance(Moments.of(originals), Moments.of(flipped)), rel=1e-4)
    assert "biased upwards" in row["warning"]
    (split,) = query(root, "from sfid").to_pylist()
    assert split["splits"] == 10 and split["sd"] > 0 and split["value"] > row["value"]
    vectors = query(root, "select vector from features where method is null")["vector"].to_pylist()
    assert np.allclose(np.sort(np.array(vectors).sum(1)), np.sort(originals.sum(1).numpy()), rtol=1e-4)


def test_im1_and_im2_come_with_the_runs_own_autoencoders(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "r1", n=8, size=32)
    images, predicted = shard(tmp_path, "images"), shard(tmp_path, "predictions")
    training = AutoencoderTraining(width=4, steps=3)
    path = ensure_autoencoders(tmp_path, "r1", [images], [predicted], training, CLASSES, "cpu")
    before = path.stat().st_mtime_ns
    assert ensure_autoencoders(tmp_path, "r1", [images], [predicted], training, CLASSES, "cpu") == path
    assert path.stat().st_mtime_ns == before
    config = MeasureConfig(autoencoders=training)
    measure_shard(tmp_path, "r1", images, shard(tmp_path, "explanations"), config, CLASSIFIER, ORACLE, 7, "cpu", path)
    compare_sets(tmp_path, "r1", "dime", config, CLASSIFIER, ORACLE, 1, "cpu")
    value = {row["metric"]: row["value"] for row in query(tmp_path, "select metric, value from scorecard").to_pylist()}
    assert value["im1"] > 0 and value["im2"] > 0
    assert not {"im1", "im2"} & set(query(tmp_path, "select metric from absent")["metric"].to_pylist())


def test_counterfactuals_that_change_nothing_win_fid_and_lose_crossover_fid(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "r1", n=N, size=64)
    images, explained = shard(tmp_path, "images"), shard(tmp_path, "explanations")
    originals = dict(zip(*(read_shard(images, [name])[name].to_pylist() for name in ("image_id", "png")), strict=True))
    rows = {name: column.to_pylist() for name, column in zip(*_columns(explained), strict=True)}
    rows |= {"png": [originals[image_id] for image_id in rows["image_id"]], "flipped": [True] * explained.rows}
    explained.path.unlink()
    write_shard(tmp_path, "explanations", "r1", "00000", rows)
    measured(tmp_path, MeasureConfig())

    labels = read_shard(images, ["label"])["label"].to_pylist()
    seen = encoders_for(MeasureConfig(), ORACLE, "cpu")["oracle"](decode_png(list(originals.values())))
    of = {name: Moments.of(seen[torch.tensor([label == name for label in labels])]) for name in CLASSES}
    value = {row["metric"]: row["value"] for row in query(tmp_path, "select metric, value from scorecard").to_pylist()}
    assert value["fid[oracle]"] == pytest.approx(0, abs=1e-6)
    assert value["crossover_fid[oracle]"] == pytest.approx(frechet_distance(*of.values()), rel=1e-4)
    assert value["sfid[oracle]"] > 1 and value["s3[oracle]"] == pytest.approx(1)
    assert "cout" not in value  # no pixel to begin with
    assert value["sparsity"] == 1


def _columns(explained: Shard) -> tuple[list[str], list[object]]:
    table = pq.ParquetFile(explained.path).read()
    return table.column_names, table.columns
