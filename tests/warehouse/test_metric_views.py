"""Worked examples of the metrics that are means over measurements, and whom each is a mean over."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import attribute_rows, explanation_rows, image_ids, image_rows, prediction_rows, run_rows

from warehouse.facts.shards import write_shard
from warehouse.lens.catalog import VIEWS
from warehouse.lens.connect import query
from warehouse.report.metric_names import MEASURES, measure

COSINES = [0.9, 0.5, 0.49, 1.0]  # FVA .5, because .5 itself is not above .5; FS .7225


def write_measures(root: Path, ids: list[str], measure: str, encoder: str | None, values: list[float], key: str = "0") -> None:
    n = len(ids)
    keys: dict[str, Any] = {"image_id": ids, "method": ["dime"] * n, "arm": ["guided"] * n, "seed": [0] * n}
    rows = keys | {"measure": [measure] * n, "encoder": [encoder] * n, "value": values}
    write_shard(root, "measurements", "r1", key, rows)


def write_pictures(root: Path, ids: list[str], labels: Sequence[str | None], flipped: list[bool]) -> None:
    """Explanations of images that are all predicted as the first class."""
    write_shard(root, "images", "r1", "0", image_rows(ids, label=labels))
    write_shard(root, "predictions", "r1", "0", prediction_rows(ids, ["no_smile"] * len(ids)))
    write_shard(root, "explanations", "r1", "0", explanation_rows(ids, flipped=flipped))
    write_shard(root, "runs", "r1", "finished", run_rows())


def only(root: Path, view: str) -> dict[str, Any]:
    (row,) = query(root, f"from {view}").to_pylist()
    return row


def test_fs_and_fva_worked_example_over_flipped_right_or_wrong(tmp_path: Path) -> None:
    ids = image_ids(5)
    write_pictures(tmp_path, ids, ["no_smile", "smile", None, "no_smile", "no_smile"], [True] * 4 + [False])
    write_measures(tmp_path, ids, "cosine", "vggface2", [*COSINES, -1.0])
    assert only(tmp_path, "fs")["value"] == pytest.approx(0.7225)
    fva = only(tmp_path, "fva")
    assert (fva["value"], fva["n"], fva["encoder"]) == (0.5, 4, "vggface2")
    assert query(tmp_path, "from s3").num_rows == 0  # no other encoder stands in for SimSiam


def test_s3_worked_example_over_right_inputs_flipped_or_not(tmp_path: Path) -> None:
    ids = image_ids(5)
    write_pictures(tmp_path, ids, ["no_smile"] * 4 + ["smile"], [True, False, True, False, True])
    write_measures(tmp_path, ids, "cosine", "simsiam", [*COSINES, -1.0])
    assert only(tmp_path, "s3") == {"run_id": "r1", "method": "dime", "value": 0.7225, "n": 4, "encoder": "simsiam"}
    names = query(tmp_path, "select metric from scorecard")["metric"].to_pylist()
    assert "s3[simsiam]" in names and not {"fs[simsiam]", "fva[simsiam]"} & set(names)


def test_cout_is_over_right_inputs_and_counts_those_that_have_none(tmp_path: Path) -> None:
    ids = image_ids(5)  # the last was classified wrongly; the third equals its picture
    write_pictures(tmp_path, ids, ["no_smile", None, "no_smile", "no_smile", "smile"], [True, True, False, False, True])
    write_measures(tmp_path, ids, "l1_sum", None, [1.0, 1.0, 0.0, 1.0, 1.0])
    there = [0, 1, 3, 4]
    write_measures(tmp_path, [ids[i] for i in there], "cout", None, [0.25, 0.5, 0.75, -1.0], "1")
    write_measures(tmp_path, [ids[i] for i in there], "cout_reference", None, [0.3, 0.6, 0.9, -1.0], "2")
    assert only(tmp_path, "cout") == {
        "run_id": "r1",
        "method": "dime",
        "value": 0.5,
        "n": 3,
        "reference": pytest.approx(0.6),
        "identical": 1,
    }


@pytest.mark.parametrize(
    ("view", "measure", "encoder", "over"),
    [
        ("fs", "cosine", "vggface2", "flipped"),
        ("fva", "cosine", "vggface2", "flipped"),
        ("s3", "cosine", "simsiam", "right"),
        ("s3", "cosine", "oracle", "right"),
        ("cout", "cout", None, "right"),
        ("im1", "im1", None, "flipped"),
        ("im2", "im2", None, "flipped"),
        ("insertion", "insertion", "change", "all"),
        ("deletion", "deletion", "change", "all"),
        *(("distances", measure, None, "all") for measure in ("l1_sum", "l1_5", "sparsity")),
        *(("distances", "lpips", backbone, "all") for backbone in ("vgg", "alex")),
    ],
)
def test_means_over_measurements_are_numpys(tmp_path: Path, view: str, measure: str, encoder: str | None, over: str) -> None:
    rng, ids = np.random.default_rng(8), image_ids(40)
    values = rng.random(40)
    over_which = {"flipped": rng.random(40) < 0.6, "right": rng.random(40) < 0.6, "all": np.full(40, True)}
    labels: list[str | None] = ["no_smile" if right else "smile" for right in over_which["right"]]
    write_pictures(tmp_path, ids, labels, over_which["flipped"].tolist())
    write_measures(tmp_path, ids, measure, encoder, values.tolist())
    write_measures(tmp_path, ids, "another", encoder, [7.0] * 40, "1")
    if measure == "cout":  # which counts those that have none by their distance
        write_measures(tmp_path, ids, "l1_sum", None, [1.0] * 40, "2")
    counted = values[over_which[over]]
    found = only(tmp_path, view)
    assert found["value"] == pytest.approx((counted > 0.5).mean() if view == "fva" else counted.mean(), abs=1e-9)
    assert found["n"] == len(counted)


def write_seeds(root: Path, flips: dict[str, list[bool]], distances: list[float]) -> None:
    """Three seeds an image; the same three pairs of distances for every image."""
    write_shard(root, "runs", "r1", "finished", run_rows(seeds=[0, 1, 2]))
    ids = list(flips)
    for seed in range(3):
        explained = explanation_rows(ids, seed=[seed] * len(ids), flipped=[flips[image_id][seed] for image_id in ids])
        write_shard(root, "explanations", "r1", f"seed-{seed}", explained)
    pairs = [(0, 1), (0, 2), (1, 2)]
    rows = [
        {"image_id": image_id, "method": "dime", "arm": "guided", "seed_a": a, "seed_b": b, "encoder": "vgg", "lpips": value}
        for image_id in ids
        for (a, b), value in zip(pairs, distances, strict=True)
    ]
    write_shard(root, "pairs", "r1", "0", {name: [row[name] for row in rows] for name in rows[0]})


def test_diversity_worked_example_over_images_that_flip_alike(tmp_path: Path) -> None:
    always, never, now_and_then = image_ids(3)
    write_seeds(tmp_path, {always: [True] * 3, never: [False] * 3, now_and_then: [True, False, True]}, [0.1, 0.2, 0.3])
    assert only(tmp_path, "diversity") == {"run_id": "r1", "method": "dime", "value": 0.2, "n": 2, "encoder": "vgg"}


def test_confidence_and_its_complement_are_over_all(tmp_path: Path) -> None:
    ids = image_ids(4)
    confident = [0.2, 0.4, 0.9, 0.9]
    explained = explanation_rows(ids, p_target_cf=confident, flipped=[False, False, True, True])
    write_shard(tmp_path, "explanations", "r1", "0", explained)
    assert only(tmp_path, "confidence")["value"] == pytest.approx(0.6)
    assert only(tmp_path, "bkl")["value"] == pytest.approx(0.4)
    assert only(tmp_path, "bkl")["n"] == 4


def test_a_metric_is_named_after_its_encoder_in_the_report_too() -> None:
    assert measure("fid[oracle]").label.endswith("seen by the audit's own attribute model")
    assert measure("fid[inception]").better == measure("fid").better == "lower"
    assert measure("new_one[net]").label == "new_one[net]"


def test_the_glossary_knows_every_metric_view() -> None:
    metrics = {"fid", "sfid", "kid", "crossover_fid", "fva", "fs", "s3", "cout", "diversity", "insertion", "deletion"}
    assert metrics | {"confidence", "bkl", "mnac", "cd", "fr", "judge_fr"} <= set(MEASURES) & set(VIEWS)
    assert {"l1_sum", "l1_5", "sparsity", "lpips", "l1", "l2", "linf"} <= set(MEASURES)


def test_the_guide_explains_every_metric() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text()
    costs = {"mask_fraction", "seconds", "nfe_forward", "nfe_backward"}
    assert {name for name in MEASURES if not re.search(rf"`{name}[\[`]", guide)} <= costs


def test_mnac_and_cd_are_numpys(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    ids, names = image_ids(60), ["q", "a", "b", "c"]
    before, after = ({name: rng.random(60) for name in names} for _ in range(2))
    flipped = rng.random(60) < 0.8
    annotated = {name: rng.random(90) < 0.5 for name in names}
    annotated["a"] |= annotated["q"]
    columns = {f"a_{name}": bits for name, bits in annotated.items()}
    write_shard(tmp_path, "runs", "r1", "finished", run_rows(target_attribute="q"))
    write_shard(tmp_path, "images", "r1", "0", image_rows(image_ids(90, seed=1), **columns))
    write_shard(tmp_path, "explanations", "r1", "0", explanation_rows(ids, flipped=flipped))
    write_shard(tmp_path, "attributes", "r1", "0", attribute_rows(ids, before, after))

    changes = {name: ((after[name] > 0.5).astype(int) - (before[name] > 0.5))[flipped] for name in names}
    expected = sum(
        abs(np.corrcoef(annotated[name], annotated["q"])[0, 1] - np.corrcoef(changes[name], changes["q"])[0, 1]) for name in names
    )
    assert only(tmp_path, "cd")["value"] == pytest.approx(expected, abs=1e-8)
    mnac = only(tmp_path, "mnac")
    assert mnac["value"] == pytest.approx(np.abs(np.array(list(changes.values()))).sum(0).mean())
    assert mnac["n"] == flipped.sum()


def test_flip_rates_are_plain_means(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    flipped, judged = rng.random(50) < 0.7, rng.random(50) < 0.5
    write_shard(tmp_path, "explanations", "r1", "0", explanation_rows(image_ids(50), flipped=flipped, judge_flipped=judged))
    assert only(tmp_path, "fr")["value"] == pytest.approx(flipped.mean())
    assert only(tmp_path, "judge_fr")["value"] == pytest.approx(judged.mean())
