"""Facts about the data door: every file is admitted or rejected with a reason, once, whatever was killed in between."""

import csv
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from cfx.images import decode_png
from cfx.portraits import ATTRIBUTES, draw, render, write_portraits
from tasks.data.ingest import DataConfig, TooManyRejected, check, fingerprint
from tests.runs import ingested
from warehouse.facts.shards import find_shard, read_shard

REASONS = {
    "text.png": ("unreadable", "not an image"),
    "cut.jpg": ("truncated", "truncated"),
    "dot.png": ("too_small", "1 x 1 pixels; each side needs 8"),
    "ink.jpg": ("mode", "CMYK"),
    "huge.png": ("too_large", "400000000 pixels"),
    "twin.png": ("duplicate", "the same bytes as 00003.png"),
    "gone.png": ("missing", "row 29 of the table names a file that is not in the folder"),
    "folder.png": ("missing", "not in the folder"),
    "../attributes.csv": ("outside", "outside the folder of images; use a path relative to it"),
    "/etc/hostname": ("outside", "use a path relative to it"),
    "sub/../../attributes.csv": ("outside", "use a path relative to it"),
    "n" * 300 + ".png": ("missing", "not in the folder"),
    "": ("missing", "row 35 of the table names no file"),
    "00005.png": ("listed_twice", "row 36 of the table names a file that an earlier row names"),
}


@pytest.fixture(scope="module")
def nasty(tmp_path_factory) -> DataConfig:
    """22 portraits, a folder of trouble around them, and a table that lists it all."""
    folder = tmp_path_factory.mktemp("nasty")
    table, images = write_portraits(folder, 22, seed=1, size=32), folder / "images"
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8))
    noise.save(images / "cut.jpg")
    (images / "cut.jpg").write_bytes((images / "cut.jpg").read_bytes()[:1200])
    (images / "text.png").write_text("no image")
    Image.new("RGB", (1, 1)).save(images / "dot.png")
    noise.convert("CMYK").save(images / "ink.jpg")
    Image.new("1", (20_000, 20_000)).save(images / "huge.png")
    shutil.copy(images / "00003.png", images / "twin.png")
    (images / "folder.png").mkdir()
    (images / "unlisted.png").write_text("the table does not name it, so it is not part of the data")
    with table.open("a", newline="") as lines:
        for name in REASONS:
            csv.writer(lines).writerow([name, "test", "smiling", *[""] * len(ATTRIBUTES)])
    return DataConfig(images=images, table=table, label_column="label", split_column="split", size=32, max_rejected=0.5)


def facts(root: Path, fact: str) -> list[dict[str, Any]]:
    paths = sorted((root / "facts" / fact).rglob("*.parquet"))
    found = [find_shard(root, fact, "r", path.stem) for path in paths]
    assert None not in found
    return pa.concat_tables([read_shard(shard) for shard in found if shard is not None]).to_pylist()


def test_every_file_is_admitted_or_rejected_with_a_reason(nasty, tmp_path, recwarn):
    shards = ingested(tmp_path, nasty, 10)
    admitted, refused = facts(tmp_path, "images"), facts(tmp_path, "rejected")
    assert [row["path"] for row in admitted] == [f"{i:05d}.png" for i in range(22)]
    assert sum(shard.rows for shard in shards) == 22
    assert sorted(row["path"] for row in refused) == sorted(REASONS)
    for row in refused:
        reason, message = REASONS[row["path"]]
        assert (row["stage"], row["reason"]) == ("ingest", reason)
        assert message in row["error"]
    assert not recwarn.list


def test_what_is_admitted_is_what_lies_on_disk(nasty, tmp_path):
    shards = ingested(tmp_path, nasty, 10)
    x = torch.cat([decode_png(read_shard(shard, ["png"])["png"].to_pylist()) for shard in shards])
    for row, image, (label, portrait) in zip(facts(tmp_path, "images"), x, draw(22, seed=1), strict=True):
        assert row["image_id"] == hashlib.sha256((nasty.images / row["path"]).read_bytes()).hexdigest()
        assert (row["width"], row["height"]) == (32, 32)
        assert row["split"] in ("train", "test")
        assert row["label"] == ("smiling" if label else "not_smiling")
        assert {a: row[f"a_{a}"] for a in ATTRIBUTES} == {a: portrait.has(a) for a in ATTRIBUTES}
        assert torch.equal(image, torch.from_numpy(render(portrait, 32)).permute(2, 0, 1).float() / 127.5 - 1)


def test_a_run_after_a_kill_ends_as_an_undisturbed_one(nasty, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    ingested(whole, nasty, 5)
    ingested(killed, nasty, 5)
    for path in sorted((killed / "facts" / "images").rglob("*.parquet"))[2:]:
        path.unlink()  # killed in shard 2: it had written what it refused, not yet what it took
    for path in sorted((killed / "facts" / "rejected").rglob("*.parquet")):
        if path.stem > "00005":
            path.unlink()
    before = {path: path.stat().st_mtime_ns for path in killed.rglob("*.parquet")}
    shards = ingested(killed, nasty, 5)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [(shard.key, shard.rows) for shard in shards] == [(shard.key, shard.rows) for shard in ingested(whole, nasty, 5)]
    for fact in ("images", "rejected"):
        assert facts(killed, fact) == facts(whole, fact)


def test_shards_do_not_change_what_is_admitted(nasty, tmp_path):
    ingested(tmp_path / "one", nasty, 1000)
    ingested(tmp_path / "many", nasty, 1)
    for fact in ("images", "rejected"):
        assert facts(tmp_path / "one", fact) == facts(tmp_path / "many", fact)


def test_too_many_refused_files_stop_the_audit_with_that_number(nasty, tmp_path):
    config = nasty.model_copy(update={"max_rejected": 0.1})
    with pytest.raises(
        TooManyRejected, match=r"14 of 36 files were refused \(4 missing, .*\), more than a share of 0\.1; `rejected` of"
    ):
        ingested(tmp_path, config, 12)
    assert len(facts(tmp_path, "rejected")) >= 4
    with pytest.raises(TooManyRejected, match="of 36 files were refused"):
        ingested(tmp_path, config, 12)
    ingested(tmp_path, nasty, 12)
    assert len(facts(tmp_path, "rejected")) == len(REASONS)


def test_attributes_are_free_text(tmp_path):
    names = ["<script>alert(1)</script>", 'a "quoted" name, with dots. and spaces', "Brille/ÄÖ", "select * from x; --", "a_"]
    table = write_portraits(tmp_path, 3, seed=0, size=16)
    with table.open("w", newline="") as lines:
        csv.writer(lines).writerows([["file", *names], ["00000.png", 1, 0, -1, "true", ""], ["00001.png", 0, 1, 1, "false", 1]])
    config = DataConfig(images=tmp_path / "images", table=table, size=16)
    assert check(config).attributes == tuple(names)
    [shard] = ingested(tmp_path / "root", config, 10)
    rows = read_shard(shard, [f"a_{name}" for name in names]).to_pylist()
    assert [list(row.values()) for row in rows] == [[True, False, False, True, None], [False, True, True, False, True]]


def test_links_are_followed_and_folders_below_are_reached(tmp_path):
    write_portraits(tmp_path / "lake", 2, seed=0, size=16)
    (tmp_path / "images" / "deep").mkdir(parents=True)
    os.symlink(tmp_path / "lake" / "images" / "00000.png", tmp_path / "images" / "deep" / "linked.png")
    (tmp_path / "table.csv").write_text("file\ndeep/linked.png\n")
    config = DataConfig(images=tmp_path / "images", table=tmp_path / "table.csv", size=16)
    [shard] = ingested(tmp_path / "root", config, 4)
    assert read_shard(shard)["path"].to_pylist() == ["deep/linked.png"]


def test_check_says_what_is_selected(nasty):
    assert check(nasty).n == 36
    assert check(nasty).labels == ("not_smiling", "smiling")
    assert check(nasty).attributes == ATTRIBUTES
    assert check(nasty.model_copy(update={"limit": 4})).n == 4


def test_what_cannot_work_is_refused_before_any_work(nasty, tmp_path):
    with pytest.raises(ValueError, match=r"images: there is no folder .*nowhere; give the folder"):
        ingested(tmp_path, nasty.model_copy(update={"images": Path("nowhere")}), 10)
    (tmp_path / "table.csv").write_text("file,label\n00000.png,\n00001.png,\n")
    blank = DataConfig(images=nasty.images, table=tmp_path / "table.csv", label_column="label")
    with pytest.raises(ValueError, match=r"label_column: 'label' is empty in all 2 rows .* set label_column to null"):
        ingested(tmp_path, blank, 10)
    assert not (tmp_path / "facts").exists()


def test_the_fingerprint_follows_contents_and_nothing_else(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    write_portraits(first, 4, seed=0, size=16)
    shutil.copytree(first, second, copy_function=shutil.copyfile)  # other file times
    one, two = (DataConfig(images=f / "images", table=f / "attributes.csv") for f in (first, second))
    assert fingerprint(one) == fingerprint(two)
    assert fingerprint(one) != fingerprint(one.model_copy(update={"limit": 3}))
    changed = bytearray((second / "images" / "00002.png").read_bytes())
    changed[-1] ^= 1
    (second / "images" / "00002.png").write_bytes(changed)
    assert fingerprint(one) != fingerprint(two)
    (first / "attributes.csv").write_text((second / "attributes.csv").read_text().replace("train", "test"))
    assert fingerprint(one) != fingerprint(two)


def test_the_digits_are_what_their_script_says():
    digits = Path(__file__).parents[2] / "examples" / "digits"
    config = DataConfig(
        images=digits / "images", table=digits / "attributes.csv", label_column="label", split_column="split", size=32
    )
    listed = check(config)
    assert (listed.n, listed.labels, listed.attributes) == (357, ("eight", "three"), ("slant", "thickness", "width", "holes"))
    with (digits / "attributes.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for measure in ("slant", "thickness", "width"):  # cut at the median: 178 of 357 lie above it
        assert sum(row[measure] == "1" for row in rows) == 178
    holed = {label: np.mean([row["holes"] == "1" for row in rows if row["label"] == label]) for label in listed.labels}
    assert holed["eight"] > 0.8 and holed["three"] < 0.05
    assert {path.name for path in config.images.iterdir()} == {row["file"] for row in rows}
