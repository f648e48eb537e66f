"""The intervention stage: edits are drawn once, and every classifier is asked about the same ones."""

import json
from pathlib import Path

import pytest

from cfx.attributes.interventions import Interventions
from cfx.attributes.oracle import OracleConfig
from cfx.classifiers import ClassifierConfig
from cfx.portraits import write_portraits
from tasks.data.ingest import DataConfig, ingest
from tasks.stages.interventions import ask_edits, edit_images, edits_id, first_images
from tasks.stages.prior import PriorConfig, prior_folder
from warehouse.facts.shards import Shard, read_shard

SETTINGS = Interventions(images=5)
ORACLE = OracleConfig(weights=Path("portraits:oracle"))
PRIOR = prior_folder(Path(), PriorConfig(path="portraits:prior"), "")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Shard]]:
    root = tmp_path_factory.mktemp("warehouse")
    table = write_portraits(root / "data", 6, seed=3)
    return root, ingest(root, "r1", DataConfig(images=root / "data/images", table=table, label_column="label"), 3)


def edit(root: Path, shard: Shard, n: int) -> Shard:
    return edit_images(root, "edits-1", shard, n, "glasses", PRIOR, ORACLE, SETTINGS, "cpu")


def test_the_first_images_of_all_shards_are_edited(images: tuple[Path, list[Shard]]) -> None:
    assert first_images(images[1], 5) == [3, 2]
    assert first_images(images[1], 2) == [2, 0]
    assert first_images(images[1], 100) == [3, 3]


def test_edits_depend_on_images_oracle_and_prior_and_on_no_classifier() -> None:
    def of(settings: Interventions = SETTINGS, **prints: str) -> str:
        known = {"data": "a", "oracle": "b", "prior": "c", "classifier": "d", "judge": None}
        return edits_id(settings, json.dumps(known | prints))

    assert of() == of(classifier="other") == of(SETTINGS.model_copy(update={"images": 9, "side": 0.1}))
    changed = [of(data="x"), of(oracle="x"), of(prior="x"), of(SETTINGS.model_copy(update={"tau": 12}))]
    assert len({of(), *changed}) == 5


def test_classifiers_are_asked_about_the_same_edits(images: tuple[Path, list[Shard]]) -> None:
    root, (_, shard) = images
    edited = edit(root, shard, 2)
    assert edit(root, shard, 2).path.stat().st_mtime_ns == edited.path.stat().st_mtime_ns
    drawn = read_shard(edited).to_pylist()
    assert [row["nfe_forward"] for row in drawn] == [2 * SETTINGS.tau] * 2
    answers = {}
    for twin in ("planted", "clean"):
        asked = ask_edits(root, twin, shard, edited, ClassifierConfig(weights=Path(f"portraits:{twin}")), SETTINGS, 4, "cpu")
        answers[twin] = read_shard(asked).to_pylist()
        for row, source in zip(answers[twin], drawn, strict=True):
            assert row["image_id"] == source["image_id"] and row["edits"] == "edits-1"
            assert row["counted"] is (source["confirmed"] and source["side"] <= SETTINGS.side)
    reaction = {
        twin: [abs(row["probabilities_after"][1] - row["probabilities_sham"][1]) for row in rows]
        for twin, rows in answers.items()
    }
    assert sum(reaction["planted"]) > sum(reaction["clean"])  # only the planted twin leans on glasses
