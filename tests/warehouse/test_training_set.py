"""What is exported to train with: labels that can be trusted, groups of equal weight, and nothing of what is held out."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from facts import image_ids
from PIL import Image
from portrait_run import write_portrait_run
from torchvision.datasets import ImageFolder
from typer.testing import CliRunner

from cfx.errors import UserError
from flows.cli import app
from warehouse.evidence.training_set import HELD_OUT, TRAIN, Sample, TrainingSet, export_training, halved, training_set, weighted
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query

RUN = "planted-demo"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that confirms glasses, with its edits; the judge denies 7 % of the counterfactuals."""
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, drawn=False)
    rows = query(root, "select image_id, attribute, switched_on from effects where attribute = 'glasses'").to_pylist()
    write_shard(root, "edits", "edits-demo", "0", edit_rows(rows))
    write_portrait_run(root, "clean-demo", planted=False, drawn=False)
    return root


@pytest.fixture(scope="module")
def found(root: Path) -> TrainingSet:
    return training_set(root, RUN)


def grey(value: int) -> bytes:
    """64 x 64 pixels, as the run's images."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


def edit_rows(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    n = len(rows)
    fixed = {"confirmed": True, "side": 0.0, "side_attribute": None, "mask_fraction": 0.1, "nfe_forward": 20, "seconds": 0.1}
    pngs = {"png": grey(90), "sham_png": grey(100), "pasted_png": grey(110), "l1": 0.1, "sham_l1": 0.1, "d_glasses": 0.9}
    named = {name: [row[name] for row in rows] for name in ("image_id", "attribute", "switched_on")}
    return named | {name: [value] * n for name, value in (fixed | pngs).items()}


def samples(counts: dict[tuple[str, bool], int]) -> list[Sample]:
    """So many originals of each label with and without an attribute."""
    ids = iter(image_ids(sum(counts.values())))
    groups = [(group, next(ids)) for group, n in counts.items() for _ in range(n)]
    return [Sample(image_id[:16], b"", label, (value,), image_id, "original", TRAIN) for (label, value), image_id in groups]


def test_half_of_every_group_is_held_out_whatever_the_order_of_the_images() -> None:
    originals = samples({("a", True): 8, ("a", False): 4, ("b", True): 6, ("b", False): 20})
    found = halved(originals)
    counts = Counter((each.group, each.split) for each in found)
    assert all(counts[group, TRAIN] == counts[group, HELD_OUT] for group, _ in counts)
    assert sorted(halved(originals[::-1]), key=lambda each: each.source) == sorted(found, key=lambda each: each.source)


def test_every_group_has_the_same_weight_and_the_mean_is_one() -> None:
    trained = weighted(samples({("a", True): 30, ("a", False): 10, ("b", True): 15, ("b", False): 25}))
    total: Counter[tuple[object, ...]] = Counter()
    for each in trained:
        total[each.group] += each.weight  # type: ignore[assignment]
    assert [round(weight, 9) for weight in total.values()] == [20.0] * 4  # 80 images in 4 groups


def test_a_handful_of_images_is_not_all_that_is_learned() -> None:
    trained = weighted(samples({("a", True): 500, ("a", False): 1}))
    assert max(each.weight for each in trained) == 20.0


def test_an_edit_keeps_its_label_and_changes_its_attribute(found: TrainingSet) -> None:
    assert found.attributes == ("glasses",)
    originals = {each.source: each for each in found.samples if each.kind == "original"}
    edits = [each for each in found.samples if each.kind == "edit"]
    assert len(edits) >= 20 and len({each.name for each in edits}) == len(edits)
    assert all(each.label == originals[each.source].label and each.values != originals[each.source].values for each in edits)
    shams = [each for each in found.samples if each.kind == "sham"]
    assert 2 * len(shams) == len(edits) and {each.name.removesuffix("-sham") for each in shams} < {each.name for each in edits}
    assert all(each.label == originals[each.source].label and each.values == originals[each.source].values for each in shams)


def test_a_counterfactual_is_of_the_class_that_the_judge_sees_and_others_are_counted(root: Path, found: TrainingSet) -> None:
    sql = "select image_id, target, flipped_8bit, judge_flipped from explanations where run_id = $run and arm = 'guided'"
    said = {row["image_id"]: row for row in query(root, sql, {"run": RUN}).to_pylist()}
    drawn = [each for each in found.samples if each.kind == "counterfactual"]
    assert drawn and all(said[each.source]["judge_flipped"] and each.label == said[each.source]["target"] for each in drawn)
    trained = [each.source for each in found.split(TRAIN) if each.kind == "original"]
    unflipped = sum(not said[one]["flipped_8bit"] for one in trained)
    denied = sum(said[one]["flipped_8bit"] and not said[one]["judge_flipped"] for one in trained)
    assert unflipped + denied > 0
    assert found.left_out.get("counterfactuals that did not flip the classifier", 0) == unflipped
    assert found.left_out.get("counterfactuals in which the judge does not see the class", 0) == denied
    assert len(drawn) == len(trained) - unflipped - denied


def test_nothing_that_was_drawn_from_a_held_out_image_is_trained_on(found: TrainingSet) -> None:
    held_out = {each.source for each in found.split(HELD_OUT)}
    assert {each.kind for each in found.split(HELD_OUT)} == {"original"}
    assert len(held_out) == 32 and not held_out & {each.source for each in found.split(TRAIN)}


def test_torchvision_reads_the_folders_and_the_table_lists_every_file(root: Path, found: TrainingSet, tmp_path: Path) -> None:
    to = tmp_path / "set"
    said = CliRunner().invoke(app, ["export", "training", RUN, "--to", str(to), "-w", str(root)])
    assert said.exit_code == 0 and "balanced by glasses: 32 originals" in said.stdout and "left out: " in said.stdout
    with (to / "table.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert {row["file"] for row in rows} == {str(path.relative_to(to)) for path in to.rglob("*.png")}
    for split in (TRAIN, HELD_OUT):
        folder = ImageFolder(str(to / split))
        labels = [folder.classes[label] for _, label in folder.samples]
        assert Counter(labels) == Counter(each.label for each in found.split(split))
    with pytest.raises(UserError, match="is there already"):
        export_training(root, RUN, to)


def test_a_label_that_no_folder_can_have_is_written_so_that_it_can_be_read_back() -> None:
    (one,) = samples({("a/b", True): 1})
    assert one.file == f"train/a%2Fb/{one.name}.png"


def test_without_a_confirmed_attribute_there_is_nothing_to_balance_by(root: Path) -> None:
    with pytest.raises(UserError, match="'clean-demo' confirms no attribute"):
        training_set(root, "clean-demo")


def test_the_command_asks_of_which_run(root: Path) -> None:
    refused = CliRunner().invoke(app, ["export", "training", "-w", str(root)])
    assert refused.exit_code == 2 and "training of which run?" in refused.stderr
