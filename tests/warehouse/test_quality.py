"""Checks of the data find what was planted and nothing else, say what was not measured, and are shown small."""

from __future__ import annotations

import io
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.data.ingest import DataConfig
from tasks.stages import quality as stages
from tasks.stages.ingest import ingest
from tasks.stages.quality import confident_learning, find_shared_files
from tests.runs import run_of
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import open_warehouse, query
from warehouse.lens.fetch import fetch
from warehouse.report.quality import MOST_BYTES, checks, warnings
from warehouse.report.queries import evidence
from warehouse.report.render import _page

N = 100
NAMES = ("brightness", "contrast", "sharpness", "warmth", "saturation", "light_x", "light_y", "subject_x", "subject_y")
STEADY = [name for name in NAMES if name != "sharpness"]


def write_run(root: Path, run: str, **facts: dict[str, list[Any]]) -> None:
    """Facts by name, and the run's own row."""
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    counts = dict.fromkeys(("attempted", "explained", "flipped", "rejected"), 0)
    texts = dict.fromkeys(("config", "fingerprints", "packages"), "{}") | dict.fromkeys(
        ("config_hash", "code_version", "hardware"), ""
    )
    row: dict[str, Any] = {"name": run, "status": "finished", "started": moment, "finished": moment, "seeds": [0], "margin": 0.1}
    row |= counts | texts | {"classes": ["cat", "dog"], "target_attribute": None, "method": "dime"}
    for name, columns in facts.items():
        write_shard(root, name, run, "a", columns)
    write_shard(root, "runs", run, "finished", {name: [value] for name, value in row.items()})


def planted() -> tuple[dict[str, np.ndarray], dict[str, list[Any]]]:
    """Measured properties and images: 1 is nearly 0, and 3 nearly 2, of another label and split; 10 to 13 and 20, 21 are odd."""
    rng = np.random.default_rng(5)
    values = {name: rng.normal(0.5, 0.05, N) for name in NAMES}
    values["contrast"] = rng.normal(0.2, 0.02, N)
    for name in NAMES:
        values[name][[1, 3]] = values[name][[0, 2]] + 1e-4
    for i, name, value in ((10, "brightness", 0.1), (11, "brightness", 0.95), (12, "sharpness", 0.1), (13, "contrast", 0.001)):
        values[name][i] = value
    labels, splits = (["cat", "dog"] * (N // 2), ["train"] * N)
    labels[1], splits[3] = "cat", "test"
    width, height = [64] * N, [64] * N
    width[20] = height[20] = 512
    height[21] = 200
    ids = [f"{i:064x}" for i in range(N)]
    paths = [f"{i:03d}.png" for i in range(N)]
    known = {
        "image_id": ids,
        "path": paths,
        "label": labels,
        "split": splits,
        "width": width,
        "height": height,
        "png": [None] * N,
    }
    return values, known


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    values, images = planted()
    gone = {
        "path": ["again.png", "half.png", "copy.png"],
        "stage": ["ingest"] * 3,
        "reason": ["duplicate", "truncated", "duplicate"],
        "error": ["the same bytes as 030.png", "cut short", "the same bytes as 031.png"],
        "label": ["cat", None, "cat"],
        "split": ["train", None, "test"],
    }
    said = {"image_id": images["image_id"], "label": images["label"], "suggested": ["dog"] * N, "quality": [0.9] * N}
    write_run(
        root,
        "planted",
        images=images,
        properties={"image_id": images["image_id"], **{f"m_{name}": list(column) for name, column in values.items()}},
        rejected=gone,
        label_issues=said | {"issue": [i == 40 for i in range(N)]},
        shared_files={"other_split": ["val"], "files": [7], "paths": [["050.png"]], "twins": [["val/x.png"]]},
    )
    few = {name: column[:6] for name, column in images.items()} | {"split": [None] * 6}
    write_run(root, "bare", images=few)
    return root


def found(root: Path, run: str) -> dict[str, list[str]]:
    rows = query(root, "select issue, path from quality_images where run_id = $run order by path", {"run": run}).to_pylist()
    return {issue: [row["path"] for row in rows if row["issue"] == issue] for issue in {row["issue"] for row in rows}}


def test_every_check_flags_what_was_planted_and_nothing_else(root: Path) -> None:
    assert found(root, "planted") == {
        "near duplicate": ["000.png", "001.png", "002.png", "003.png"],
        "duplicates disagree": ["002.png", "003.png", "copy.png"],
        "exact duplicate": ["again.png", "copy.png"],
        "leak between splits": ["002.png", "003.png", "050.png", "copy.png"],
        "label issue": ["040.png"],
        "dark": ["010.png"],
        "bright": ["011.png"],
        "blurred": ["012.png"],
        "low information": ["013.png"],
        "odd size": ["020.png"],
        "odd shape": ["021.png"],
    }


def test_near_duplicates_are_those_of_all_pairs(root: Path) -> None:
    values, _ = planted()
    points = np.stack([values[name] for name in STEADY], 1)
    deviations = 1.4826 * np.median(np.abs(points - np.median(points, 0)), 0)
    apart = np.sqrt((((points[:, None] - points) / deviations) ** 2).mean(2))
    pairs = [(i, j) for i in range(N) for j in range(i + 1, N) if apart[i, j] <= 0.1]
    rows = query(root, "from near_duplicates where run_id = 'planted' order by path").to_pylist()
    assert [(int(row["path"][:3]), int(row["other_path"][:3])) for row in rows] == pairs == [(0, 1), (2, 3)]
    assert [row["distance"] for row in rows] == pytest.approx([apart[pair] for pair in pairs])


def test_a_check_says_how_bad_it_is_or_that_it_was_not_made(root: Path) -> None:
    rows = query(root, "from quality where run_id = 'planted' order by place").to_pylist()
    known = {row["issue"]: row for row in rows}
    assert (known["leak between splits"]["flagged"], known["leak between splits"]["n"]) == (4, N + 2)
    assert known["leak between splits"]["severity"] == "severe" and known["dark"]["severity"] == "moderate"
    assert known["exact duplicate"]["share"] == pytest.approx(2 / (N + 2))
    assert (known["rejected"]["about"], known["rejected"]["flagged"], known["rejected"]["n"]) == ("truncated", 1, N + 3)
    assert (known["class balance"]["about"], known["class balance"]["flagged"]) == ("dog", 49)
    assert known["class balance"]["share"] == pytest.approx(0.98)
    bare = {row["issue"]: row for row in query(root, "from quality where run_id = 'bare'").to_pylist()}
    unmeasured = {issue for issue, row in bare.items() if row["severity"] == "not measured"}
    assert unmeasured == {"leak between splits", "near duplicate", "label issue", "low information", "dark", "bright", "blurred"}
    assert "pip install 'cfx-audit[quality]'" in bare["label issue"]["says"] and bare["dark"]["flagged"] is None


def test_what_is_severe_is_said_with_what_follows(root: Path) -> None:
    said = warnings(query(root, "from quality where run_id = 'planted' order by place").to_pylist())
    assert said[0].startswith(
        "Data quality, leak between splits: 4 of 102 images (3.9%); accuracy and every rate below may be better"
    )
    assert len(said) == 2 and said[1].startswith("Data quality, duplicates disagree: 3 of 102 images (2.9%)")


def test_thumbnails_stay_within_their_bytes_and_a_pair_is_shown_once() -> None:
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(file, "PNG")
    issues = [f"check {i}" for i in range(20)]
    flagged = [{"issue": issue, "path": f"{i}a", "other": f"{i}b"} for issue in issues for i in range(4)]
    flagged += [{"issue": issues[0], "path": "0b", "other": "0a"}]
    images = {row[side]: file.getvalue() for row in flagged for side in ("path", "other")}
    shown = checks([{"issue": issue, "flagged": 8} for issue in issues], flagged, images)
    uris = [uri for check in shown for image in check.shown for uri in (image.uri, image.other_uri) if uri is not None]
    assert 0.8 * MOST_BYTES < sum(map(len, uris)) <= MOST_BYTES
    assert [image.row["path"] for image in shown[0].shown] == ["0a", "1a", "2a", "3a"]


def test_the_section_shows_every_check_and_the_flagged_files(root: Path) -> None:
    with closing(open_warehouse(root)) as lens:
        asked = {name: evidence(lens, name, "planted") for name in ("quality", "quality_images")}
        [run] = fetch(lens, "from runs where run_id = 'planted'")
    png = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(png, "PNG")
    shown = checks(asked["quality"].rows, asked["quality_images"].rows, {"020.png": png.getvalue()})
    page = _page().environment.get_template("quality.html.j2").render(**asked, run=run, quality_checks=shown)
    assert [row["issue"] for row in asked["quality"].rows if f"{row['issue']}</th>" not in page.replace(" <span", "</th>")] == []
    assert page.count("data:image/webp") == 1 and "512 x 512 pixels: a side of 8.0 times the usual" in page
    assert "labels that are right are accused" in page and "None" not in page


def test_flipped_labels_are_found_and_one_class_alone_accuses_nobody() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 300)
    probabilities = np.full((300, 3), 0.05)
    probabilities[np.arange(300), truth] = 0.9
    given = truth.copy()
    given[:15] = (given[:15] + 1) % 3
    issues, quality = confident_learning(given, probabilities)
    assert issues.nonzero()[0].tolist() == list(range(15))
    assert quality == pytest.approx(probabilities[np.arange(300), given])
    alone, _ = confident_learning(np.zeros(5, np.int64), probabilities[:5])
    assert not alone.any()


def test_labels_are_judged_by_the_audited_classifiers_answers(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    ids, n = [f"{i:064x}" for i in range(40)], 40
    labels = [run.classes[i % 2] for i in range(n)]
    said = [[0.98, 0.02] if label == run.classes[0] else [0.02, 0.98] for label in labels]
    labels[3], labels[4] = run.classes[0], None  # type: ignore[call-overload]
    known = {
        "image_id": ids,
        "split": [None] * n,
        "path": ids,
        "width": [8] * n,
        "height": [8] * n,
        "label": labels,
        "png": [None] * n,
    }
    images = write_shard(tmp_path, "images", run.id, "a", known)
    named = [run.classes[int(np.argmax(row))] for row in said]
    predicted = write_shard(tmp_path, "predictions", run.id, "a", {"image_id": ids, "class": named, "probabilities": said})
    stages.find_label_issues(run, [images], [predicted])
    rows = query(tmp_path, "from label_issues order by image_id").to_pylist()
    assert len(rows) == n - 1 and [row["image_id"] for row in rows if row["issue"]] == [ids[3]]
    assert rows[3]["suggested"] == run.classes[1] and rows[3]["quality"] == pytest.approx(0.02, abs=1e-6)


def test_what_ingest_refuses_keeps_its_label_and_other_splits_are_compared_byte_for_byte(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(2)
    files = {f"{name}.png": Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)) for name in "abcd"}
    for name, image in files.items():
        image.save(folder / name)
    for copy, of in (("copy.png", "a.png"), ("train.png", "b.png")):
        (folder / copy).write_bytes((folder / of).read_bytes())
    rows = [
        "a.png,smiling,test",
        "b.png,smiling,test",
        "copy.png,not_smiling,test",
        "train.png,smiling,train",
        "c.png,smiling,train",
    ]
    (tmp_path / "table.csv").write_text("\n".join(["file,label,split", *rows, "a.png,smiling,extra"]))
    data = DataConfig(
        images=folder, table=tmp_path / "table.csv", label_column="label", split_column="split", split="test", size=16
    )
    run = run_of(tmp_path, data=data)
    images = ingest(run)
    refused = query(tmp_path, "select path, reason, label, split from rejected").to_pylist()
    assert refused == [{"path": "copy.png", "reason": "duplicate", "label": "not_smiling", "split": "test"}]
    find_shared_files(run, images)
    shared = query(tmp_path, "select * exclude (run_id) from shared_files order by other_split").to_pylist()
    assert shared == [
        {"other_split": "extra", "files": 1, "paths": ["a.png"], "twins": ["a.png"]},
        {"other_split": "train", "files": 2, "paths": ["b.png"], "twins": ["train.png"]},
    ]
