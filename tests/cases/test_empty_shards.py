"""A shard with nothing to explain is written empty, and every stage, view and page that reads it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.csv as csv
import pytest
import torch

from cfx.checkpoint import save_network
from cfx.images import decode_png
from cfx.user_code import importable_from
from tasks.check import check
from tasks.config import AuditConfig
from tasks.run import Run
from tasks.stages.attributes import attributes
from tasks.stages.explain import explain
from tasks.stages.ingest import ingest
from tasks.stages.interventions import draw_edits, query_edits, wanted_edits
from tasks.stages.learn import learn
from tasks.stages.measure import measure
from tasks.stages.predict import predict
from tasks.stages.properties import measure_properties
from tasks.stages.run_record import finish_run, start_run
from tasks.stages.saliency import cross_examine
from tasks.stages.set_metrics import compare_sets
from tasks.stages.unnamed import look_beyond_names
from tests.cases.tiny import Pooled, lay_out, settings
from warehouse.facts.shards import Shard
from warehouse.lens.connect import query
from warehouse.report.render import write_report


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As in `tiny`; the classifier says "smiling" of every image, or of those brighter than half of them."""
    home = tmp_path_factory.mktemp("home")
    lay_out(home)
    importable_from(home)
    files = sorted((home / "data/images").iterdir())
    sums = torch.stack([decode_png([path.read_bytes()])[0].mean((1, 2)).sum() for path in files])
    for name, weight, bias in (("one-class", 0.0, 9.0), ("by-brightness", 40.0, -40.0 * float(sums.median()) - 0.1)):
        network = Pooled(2)
        with torch.no_grad():
            network.last.weight.copy_(torch.tensor([[0.0] * 3, [weight] * 3]))
            network.last.bias.copy_(torch.tensor([0.0, bias]))
        save_network(home / f"{name}.safetensors", network, {})
    return home


def audited(run: Run) -> dict[str, list[Shard]]:
    """Every stage by hand, in the flow's order, without its server; the shards by fact."""
    start_run(run)
    images = ingest(run)
    predicted = [predict(run, shard) for shard in images]
    measured = [measure_properties(run, shard) for shard in images]
    learned = learn(run, images, predicted)
    explained = [explain(run, image, said, learned) for image, said in zip(images, predicted, strict=True)]
    pairs = list(zip(images, explained, strict=True))
    known = [attributes(run, *pair) for pair in pairs] if run.config.oracle is not None else []
    maps = [cross_examine(run, *pair) for pair in pairs]
    scores = [measure(run, *pair, learned) for pair in pairs]
    compare_sets(run)
    wanted = wanted_edits(run, images)
    drawn = [draw_edits(run, one) for one in wanted]
    asked = [query_edits(run, edit, one.images) for edit, one in zip(drawn, wanted, strict=True)]
    look_beyond_names(run, images, predicted)
    finish_run(run)
    return {
        "predictions": predicted,
        "properties": measured,
        "explanations": explained,
        "attributes": known,
        "maps": maps,
        "measurements": scores,
        "effects": asked,
    }


def run_of(home: Path, root: Path, weights: str, **changed: Any) -> Run:
    values = settings(home) | {"warehouse": root, "saliency": {}, "shard_size": 3}
    values["classifier"] = values["classifier"] | {"weights": home / f"{weights}.safetensors"}
    return check(AuditConfig.model_validate(values | changed))


CASES: dict[str, dict[str, Any]] = {
    "all-are-the-target": {"target": "smiling"},
    "all-are-the-target-an-image-a-shard": {"target": "smiling", "shard_size": 1},
    "all-are-the-target-without-an-oracle": {"target": "smiling", "oracle": None},
    "all-are-the-target-by-maskdime": {"target": "smiling", "ladder": [{"method": "maskdime", "steps": 5, "tau": 1}]},
    "all-are-the-target-by-ace": {"target": "smiling", "ladder": [{"method": "ace", "steps": 5, "tau": 1, "iterations": 1}]},
}


@pytest.mark.parametrize("changed", CASES.values(), ids=CASES)
def test_where_every_image_is_the_target_already_nothing_is_explained_and_it_is_said(
    home: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    run = run_of(home, tmp_path, "one-class", **changed)
    shards = audited(run)
    assert sum(shard.rows for shard in shards["explanations"]) == 0
    assert sum(shard.rows for shard in shards["predictions"]) == 8
    (row,) = query(tmp_path, "select status, attempted, explained, flipped from runs").to_pylist()
    assert row == {"status": "finished", "attempted": 8, "explained": 0, "flipped": 0}
    assert query(tmp_path, "from verdicts").num_rows == 0


def test_the_page_of_a_run_with_nothing_to_explain_gives_no_verdict(home: Path, tmp_path: Path) -> None:
    run = run_of(home, tmp_path, "one-class", target="smiling")
    audited(run)
    page = write_report(run.root, run.id).read_text()
    assert "No verdict yet" in page and "clear of all" not in page


def test_shards_of_one_class_and_of_both_give_what_one_shard_gives(home: Path, tmp_path: Path) -> None:
    """A table sorted by class: with a target, whole shards have nothing to explain."""
    sql = "select image_id, arm, source, target, p_target_cf from explanations order by image_id, arm"
    found = {}
    for size in (1, 64):
        run = run_of(home, tmp_path / str(size), "by-brightness", target="smiling", shard_size=size)
        shards = audited(run)
        rows = [shard.rows for shard in shards["explanations"]]
        assert 0 < sum(rows) < 2 * 8 and (size != 1 or 0 in rows)
        found[size] = query(tmp_path / str(size), sql).to_pylist()
    assert len(found[1]) == len(found[64])
    for one, same in zip(found[1], found[64], strict=True):
        assert one | {"p_target_cf": 0} == same | {"p_target_cf": 0}
        assert one["p_target_cf"] == pytest.approx(same["p_target_cf"], abs=1e-5)


def test_shards_whose_every_file_is_refused_are_empty(home: Path, tmp_path: Path) -> None:
    table = csv.read_csv(home / "data/attributes.csv")
    broken = tmp_path / "data"
    (broken / "images").mkdir(parents=True)
    names = sorted(table["file"].to_pylist())
    for i, name in enumerate(names):
        content = (home / "data/images" / name).read_bytes()
        (broken / "images" / name).write_bytes(content if i >= 4 else b"no image")
    csv.write_csv(table, broken / "attributes.csv")
    data = settings(home)["data"] | {"images": broken / "images", "table": broken / "attributes.csv", "max_rejected": 0.9}
    run = run_of(home, tmp_path / "w", "by-brightness", data=data, shard_size=2)
    shards = audited(run)
    assert sum(shard.rows for shard in shards["predictions"]) == 4
    (row,) = query(tmp_path / "w", "select status, rejected from runs").to_pylist()
    assert row == {"status": "finished", "rejected": 4}
