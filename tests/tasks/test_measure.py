"""Measuring and comparing, on portraits and the bundled networks: every row once, what is absent said, sets of known distance."""

from hashlib import md5
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from facts import explanation_rows, image_ids, image_rows, prediction_rows, run_rows
from numpy.typing import NDArray
from portrait_run import CLASSES, write_portrait_run
from scipy.linalg import sqrtm
from torchvision.models.vgg import cfgs, make_layers

from cfx.autoencoder import AutoencoderTraining, load_autoencoders
from cfx.classifiers import ClassifierConfig
from cfx.images import decode_png, encode_png
from cfx.metrics.frechet import Moments, frechet_distance
from cfx.perceptual import load_lpips
from tasks.config import MeasureConfig
from tasks.run import Run
from tasks.stages.autoencoders import trained_autoencoders
from tasks.stages.encoders import encoders_for
from tasks.stages.learn import Learned
from tasks.stages.measure import measure
from tasks.stages.set_metrics import compare_sets
from tests.runs import run_of
from warehouse.facts.shards import Shard, find_shard, read_shard, write_shard
from warehouse.lens.connect import query

N = 24
CLASSIFIER = ClassifierConfig(weights="portraits:planted", classes=tuple(CLASSES))


def shard(root: Path, fact: str) -> Shard:
    found = find_shard(root, fact, "r1", "00000")
    assert found is not None
    return found


def measuring(root: Path, config: MeasureConfig, **settings: Any) -> Run:
    """An audit by DiME that measures as configured."""
    return run_of(root, classifier=CLASSIFIER, measures=config, batch_size=7, ladder=[{"method": "dime"}], **settings)


def measured(root: Path, config: MeasureConfig, seeds: int = 1) -> Shard:
    images, explained = shard(root, "images"), shard(root, "explanations")
    run = measuring(root, config, seeds=tuple(range(seeds)))
    measurements = measure(run, images, explained, Learned())
    compare_sets(run)
    return measurements


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("measured")
    write_portrait_run(root, "r1", n=N, size=64)
    measured(root, MeasureConfig(insertion_deletion=True))
    return root


def test_every_guided_explanation_is_measured_once_and_every_image_encoded(root: Path) -> None:
    rows = query(
        root, "select measure, encoder, count(*) as n, count(distinct image_id) as images from measurements group by all"
    )
    assert {(row["measure"], row["encoder"], row["n"], row["images"]) for row in rows.to_pylist()} == {
        *((measure, None, N, N) for measure in ("l1_sum", "l1_5", "sparsity", "cout", "cout_reference")),
        ("cosine", "oracle", N, N),
        ("insertion", "change", N, N),
        ("deletion", "change", N, N),
    }
    counted = "select method is null as original, arm, count(*) as n from features group by all order by n, original"
    assert query(root, counted).to_pylist() == [
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
    encode = encoders_for(measuring(root, MeasureConfig()))["oracle"]
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
    config = MeasureConfig(autoencoders=training)
    run = measuring(tmp_path, config)
    path = trained_autoencoders(run, [images], [predicted])
    assert path is not None
    before = path.stat().st_mtime_ns
    assert trained_autoencoders(run, [images], [predicted]) == path
    assert path.stat().st_mtime_ns == before
    measure(run, images, shard(tmp_path, "explanations"), Learned(autoencoders=path))
    compare_sets(run)
    value = {row["metric"]: row["value"] for row in query(tmp_path, "select metric, value from scorecard").to_pylist()}
    assert value["im1"] > 0 and value["im2"] > 0
    networks, one, two = load_autoencoders(path), [], []
    for row in read_shard(shard(tmp_path, "explanations")).to_pylist():
        if row["arm"] == "guided" and row["flipped"]:
            x_cf = decode_png([row["png"]])
            rebuilt = (networks.reconstruct(x_cf, name) for name in (row["source"], row["target"], None))
            x, by_source, by_target, by_all = ((part.double().numpy().ravel() + 1) / 2 for part in (x_cf, *rebuilt))
            one.append(((x - by_target) ** 2).sum() / ((x - by_source) ** 2).sum())
            two.append(((by_target - by_all) ** 2).sum() / x.sum())
    assert (value["im1"], value["im2"]) == pytest.approx((np.mean(one), np.mean(two)), rel=1e-4)
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
    seen = encoders_for(measuring(tmp_path, MeasureConfig()))["oracle"](decode_png(list(originals.values())))
    of = {name: Moments.of(seen[torch.tensor([label == name for label in labels])]) for name in CLASSES}
    value = {row["metric"]: row["value"] for row in query(tmp_path, "select metric, value from scorecard").to_pylist()}
    assert value["fid[oracle]"] == pytest.approx(0, abs=1e-6)
    assert value["crossover_fid[oracle]"] == pytest.approx(frechet_distance(*of.values()), rel=1e-4)
    assert value["sfid[oracle]"] > 1 and value["s3[oracle]"] == pytest.approx(1)
    assert "cout" not in value  # no pixel to begin with
    assert value["sparsity"] == 1


def _columns(explained: Shard) -> tuple[list[str], list[Any]]:
    table = pq.ParquetFile(explained.path).read()
    return table.column_names, table.columns


def test_diversity_is_the_mean_lpips_of_every_two_seeds(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = make_layers(cfgs["D"], batch_norm=False).state_dict()
    torch.save({f"features.{name}": value for name, value in state.items()}, tmp_path / "vgg16.pth")
    ids = image_ids(2)
    shown = torch.rand(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1  # the image and three seeds
    png = [encode_png(images) for images in shown]
    explained = [explanation_rows(ids, seed=[s] * 2, png=[each[1 + s] for each in png]) for s in range(3)]
    together = {name: [value for rows in explained for value in rows[name]] for name in explained[0]}
    images = write_shard(tmp_path, "images", "r1", "00000", image_rows(ids, png=[each[0] for each in png]))
    write_shard(tmp_path, "runs", "r1", "finished", run_rows(seeds=[0, 1, 2]))
    done = write_shard(tmp_path, "explanations", "r1", "00000", together)
    config = MeasureConfig(vgg16=tmp_path / "vgg16.pth", cout=False)
    measure(measuring(tmp_path, config, seeds=(0, 1, 2)), images, done, Learned())
    distance, seen = load_lpips(tmp_path / "vgg16.pth"), [decode_png(each) for each in png]
    expected = [float(distance(x[i : i + 1], x[j : j + 1])) for x in seen for i, j in combinations((1, 2, 3), 2)]
    (row,) = query(tmp_path, "from diversity").to_pylist()
    assert (row["value"], row["n"]) == (pytest.approx(sum(expected) / 6, rel=1e-5), 2)
    from_image = [float(distance(x[:1], x[i : i + 1])) for x in seen for i in (1, 2, 3)]
    (row,) = query(tmp_path, "from distances where measure = 'lpips'").to_pylist()
    assert (row["value"], row["encoder"]) == (pytest.approx(np.mean(from_image), rel=1e-5), "vgg")


Rows = NDArray[np.floating[Any]]


def scipys_fid(a: Rows, b: Rows) -> float:
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real))


def kid_by_hand(a: Rows, b: Rows) -> float:
    def kernel(x: Rows, y: Rows) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    within = sum(np.mean([kernel(x, y) for x, y in permutations(rows, 2)]) for rows in (a, b))
    return float(within - 2 * np.mean([kernel(x, y) for x in a for y in b]))


@pytest.mark.parametrize("shards", [1, 3])  # how rows lie in files plays no part
def test_set_metrics_are_scipys_over_the_sets_they_say(tmp_path: Path, shards: int) -> None:
    rng, n, classes = np.random.default_rng(4), 60, np.array(["a", "b", "c", "d"])
    ids, flipped, wrong = np.array(image_ids(n)), rng.random(n) < 0.8, rng.random(n) < 0.2
    source, onwards = rng.integers(4, size=n), rng.integers(1, 4, size=n)
    target = (source + onwards) % 4
    label = np.where(wrong, (source + 1) % 4, source)
    real = rng.normal(size=(n, 3)).astype(np.float32) + label[:, None] / 2
    fake = (real @ rng.normal(size=(3, 3)) / 2 + 0.5).astype(np.float32)
    write_shard(tmp_path, "runs", "r1", "finished", run_rows(classes=classes.tolist()))
    for i in range(shards):
        mine = slice(i, None, shards)
        outcome: dict[str, Any] = {"source": classes[source[mine]], "target": classes[target[mine]], "flipped": flipped[mine]}
        k = len(ids[mine])
        seen = {"method": [None] * k + ["dime"] * k, "arm": [None] * k + ["guided"] * k, "seed": [None] * k + [0] * k}
        seen |= {"image_id": [*ids[mine]] * 2, "encoder": ["oracle"] * 2 * k, "vector": [*real[mine], *fake[mine]]}
        write_shard(tmp_path, "images", "r1", str(i), image_rows(ids[mine], label=classes[label[mine]]))
        write_shard(tmp_path, "predictions", "r1", str(i), prediction_rows(ids[mine], classes[source[mine]]))
        write_shard(tmp_path, "explanations", "r1", str(i), explanation_rows(ids[mine], **outcome))
        write_shard(tmp_path, "features", "r1", str(i), seen)
    compare_sets(measuring(tmp_path, MeasureConfig()))
    found = {row["metric"]: row for row in query(tmp_path, "from set_metrics where absent is null").to_pylist()}

    def part(split: str, parts: int) -> NDArray[np.int64]:
        lots = [int(md5(f"{split}:{image_id}".encode()).hexdigest()[:8], 16) / 2**32 for image_id in ids]
        return (np.array(lots) * parts).astype(int)

    groups = part("groups", 10)
    fid = scipys_fid(real, fake[flipped])
    without = [scipys_fid(real[groups != g], fake[flipped & (groups != g)]) for g in range(10)]
    error = 2.2622 * (9 / 10 * ((np.array(without) - np.mean(without)) ** 2).sum()) ** 0.5
    assert found["fid"]["value"] == pytest.approx(fid, rel=1e-5)
    assert (found["fid"]["low"], found["fid"]["high"]) == pytest.approx((max(0, fid - error), fid + error), rel=1e-4)
    assert (found["fid"]["n"], found["fid"]["n_real"]) == (flipped.sum(), n)
    halves = [part(str(split), 2) for split in range(10)]
    for metric, distance in (("sfid", scipys_fid), ("kid", kid_by_hand)):
        each = [np.mean([distance(real[half == h], fake[flipped & (half != h)]) for h in (0, 1)]) for half in halves]
        assert found[metric]["value"] == pytest.approx(np.mean(each), rel=1e-5)
        assert found[metric]["sd"] == pytest.approx(np.std(each, ddof=1), rel=1e-4)
    crossing = (source < 2) != (target < 2)
    expected = [scipys_fid(real[(label < 2) == low], fake[crossing & ((target < 2) == low)]) for low in (True, False)]
    assert found["crossover_fid"]["value"] == pytest.approx(np.mean(expected), rel=1e-5)
