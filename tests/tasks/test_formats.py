"""Published data sets, tiny but in their own formats: what table they become, and that every image is reached through it."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from flows.cli import app
from tasks.data.formats import table_of
from tasks.data.ingest import DataConfig, check, fingerprint
from tests.runs import ingested
from warehouse.facts.shards import find_shard, read_shard


def image(i: int, form: str = "PNG") -> bytes:
    """An image of its own, 12 x 12."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(buffer, form)
    return buffer.getvalue()


def put(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def imported(form: str, folder: Path, **columns: object) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of the table, and those of `images` that an audit makes of it; none may be refused."""
    to = folder.parent / "table.parquet"
    table_of(form, folder, to)
    config = DataConfig(images=folder, table=to, size=12, **columns)
    shards = ingested(folder.parent / "warehouse", config, 2)
    rejected = find_shard(folder.parent / "warehouse", "rejected", "r", "00000")
    assert rejected is not None and rejected.rows == 0
    return pq.read_table(to).to_pylist(), [row for shard in shards for row in read_shard(shard).to_pylist()]


CELEBA = "3\nSmiling Young \n000001.jpg  1 -1\n000002.jpg -1 -1\n000003.jpg  1  1\n"
CELEBA_CSV = "image_id,Smiling,Young\n000001.jpg,1,-1\n000002.jpg,-1,-1\n000003.jpg,1,1\n"
PARTS = "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n"


@pytest.mark.parametrize(
    ("lists", "images"),
    [
        ({"Anno/list_attr_celeba.txt": CELEBA, "Eval/list_eval_partition.txt": PARTS}, "img_align_celeba"),
        (
            {"list_attr_celeba.csv": CELEBA_CSV, "list_eval_partition.csv": "image_id,partition\n" + PARTS.replace(" ", ",")},
            "img_align_celeba/img_align_celeba",
        ),
    ],
    ids=["txt", "csv"],
)
def test_celeba(tmp_path: Path, lists: dict[str, str], images: str) -> None:
    folder = put(tmp_path / "celeba", lists | {f"{images}/{i:06}.jpg": image(i, "JPEG") for i in (1, 2, 3)})
    rows, seen = imported("celeba", folder, split_column="split", label_column="Smiling")
    assert rows[0] == {"file": f"{images}/000001.jpg", "split": "train", "Smiling": True, "Young": False}
    assert [row["split"] for row in rows] == ["train", "validation", "test"]
    assert [(row["label"], row["a_Young"]) for row in seen] == [("true", False), ("false", False), ("true", True)]


def test_celeba_hq_takes_its_split_from_celeba(tmp_path: Path) -> None:
    lists = {
        "CelebAMask-HQ-attribute-anno.txt": "2\nSmiling Young\n0.jpg  1 -1\n1.jpg  -1 1\n",
        "CelebA-HQ-to-CelebA-mapping.txt": "idx     orig_idx     orig_file\n0    2    000003.jpg\n1    0    000001.jpg\n",
        "list_eval_partition.txt": PARTS,
    }
    folder = put(tmp_path / "hq", lists | {f"CelebA-HQ-img/{i}.jpg": image(i, "JPEG") for i in (0, 1)})
    rows, seen = imported("celeba-hq", folder, split_column="split")
    assert [(row["file"], row["split"], row["celeba_file"]) for row in rows] == [
        ("CelebA-HQ-img/0.jpg", "test", "000003.jpg"),
        ("CelebA-HQ-img/1.jpg", "train", "000001.jpg"),
    ]
    assert [row["a_Smiling"] for row in seen] == [True, False]


def test_a_list_that_is_cut_short_is_reported_with_its_line(tmp_path: Path) -> None:
    put(tmp_path / "c", {"list_attr_celeba.txt": CELEBA[:-4]})
    with pytest.raises(ValueError, match=r"list_attr_celeba.txt: image 3 needs a file and 2 answers"):
        table_of("celeba", tmp_path / "c", tmp_path / "t.parquet")
    assert not (tmp_path / "t.parquet").exists()


def test_bdd100k(tmp_path: Path) -> None:
    def frame(name: str, time: str, *categories: str) -> dict[str, Any]:
        labels = [{"category": category, "box2d": {"x1": 0, "y1": 0, "x2": 5, "y2": 5}, "id": 0} for category in categories]
        scene = {"weather": "clear", "scene": "city street", "timeofday": time}
        return {"name": name, "attributes": scene, "timestamp": 10000, "labels": labels}

    names = ["train/0000f77c-6257be58.jpg", "train/b.jpg", "val/c.jpg"]
    train = [frame(names[0][6:], "daytime", "person", "car"), frame("b.jpg", "night", "traffic light", "drivable area")]
    files = {
        "labels/bdd100k_labels_images_train.json": json.dumps(train, indent=4),
        "labels/det_20/det_val.json": json.dumps([{"name": "c.jpg", "attributes": None, "labels": None}]),
    }
    images = {f"images/100k/{name}": image(i, "JPEG") for i, name in enumerate(names)}
    folder = put(tmp_path / "bdd", files | images)
    rows, seen = imported("bdd100k", folder, label_column="timeofday", split_column="split")
    assert [(row["pedestrian"], row["car"], row["traffic light"]) for row in rows] == [
        (True, True, False),
        (False, False, True),
        (False, False, False),
    ]
    assert [(row["split"], row["label"], row["a_pedestrian"]) for row in seen] == [
        ("train", "daytime", True),
        ("train", "night", False),
        ("validation", None, False),
    ]


def test_bdd_oia(tmp_path: Path) -> None:
    actions = {
        "images": [{"file_name": "b.jpg", "id": 1}, {"file_name": "a.jpg", "id": 0}, {"file_name": "c.jpg", "id": 2}],
        "annotations": [
            {"id": 0, "category": [1, 0, 1, 0, 0]},
            {"id": 1, "category": [0, 1, 0, 0]},
            {"id": 2, "category": [0, 0, 0, 0, 1]},
        ],
    }
    reasons = [{"file_name": "a.jpg", "reason": [1] + [0] * 20}]
    files = {"val_25k_images_actions.json": json.dumps(actions), "val_25k_images_reasons.json": json.dumps(reasons)}
    folder = put(tmp_path / "oia", files | {f"data/{name}.jpg": image(i, "JPEG") for i, name in enumerate("abc")})
    rows, seen = imported("bdd-oia", folder, label_column="action")
    assert [(row["file"], row["action"], row["left"], row["reason_00"]) for row in rows] == [
        ("data/a.jpg", "forward", True, True),
        ("data/b.jpg", "stop", False, None),
    ]
    assert [row["label"] for row in seen] == ["forward", "stop"]


def test_folders_of_classes_and_their_metadata(tmp_path: Path) -> None:
    places = ["train/cat/1", "train/dog/2", "val/cat/3", "val/dog/4"]
    files: dict[str, bytes | str] = {f"{place}.png": image(i) for i, place in enumerate(places)}
    files |= {"train/metadata.csv": "file_name,sitting\ncat/1.png,1\ndog/2.png,0\n", "val/cat/.DS_Store": "", "README.md": "x"}
    rows, seen = imported("imagefolder", put(tmp_path / "pets", files), label_column="label", split_column="split")
    assert rows[0] == {"file": "train/cat/1.png", "split": "train", "label": "cat", "sitting": "1"}
    assert [(row["split"], row["label"], row["a_sitting"]) for row in seen] == [
        ("train", "cat", True),
        ("train", "dog", False),
        ("validation", "cat", None),
        ("validation", "dog", None),
    ]


LABEL = {"names": ["cat", "dog"], "_type": "ClassLabel"}
HUGGING_FACE = {"info": {"features": {"image": {"_type": "Image"}, "label": LABEL, "hat": {"dtype": "bool"}}}}


@pytest.mark.parametrize("saved", [False, True], ids=["downloaded", "saved"])
def test_hugging_face(tmp_path: Path, saved: bool) -> None:
    cells = [{"bytes": image(i), "path": f"{i}.png"} for i in range(5)]
    table = pa.table(
        {"image": cells, "label": pa.array([0, 1, -1, 0, 1], pa.int64()), "hat": [True, False, True, True, False]}
    ).replace_schema_metadata({"huggingface": json.dumps(HUGGING_FACE)})
    folder = tmp_path / "set"
    if saved:  # Dataset.save_to_disk
        put(folder, {"train/state.json": "{}", "dataset_dict.json": '{"splits": ["train"]}'})
        with pa.ipc.new_stream(str(folder / "train" / "data-00000-of-00001.arrow"), table.schema) as stream:
            stream.write_table(table, max_chunksize=2)
    else:
        put(folder, {"README.md": "---\nlicense: mit\n---"})
        (folder / "data").mkdir()
        pq.write_table(table, folder / "data" / "train-00000-of-00001.parquet", row_group_size=2)
    rows, seen = imported("huggingface", folder, label_column="label", split_column="split")
    assert [row["label"] for row in rows] == ["cat", "dog", None, "cat", "dog"]
    assert rows[3]["file"].endswith("/0000003") and rows[3]["split"] == "train"
    assert [row["a_hat"] for row in seen] == [True, False, True, True, False]
    first = np.asarray(Image.open(io.BytesIO(seen[3]["png"])))
    assert np.array_equal(first, np.asarray(Image.open(io.BytesIO(image(3)))))


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_tars_of_webdataset(tmp_path: Path) -> None:
    for shard in range(2):
        members: dict[str, bytes] = {}
        for i in range(3):
            key = f"{3 * shard + i:06}"
            members[f"{key}.jpg"] = image(3 * shard + i, "JPEG")
            members |= {f"{key}.cls": str(i % 2).encode(), f"{key}.json": json.dumps({"hat": i % 2, "box": [1, 2]}).encode()}
        tar_of(tmp_path / "wds" / f"train-{shard:04}.tar", members)
    rows, seen = imported("webdataset", tmp_path / "wds", label_column="label", split_column="split")
    assert rows[4] == {"file": "train-0001.tar/000004.jpg", "split": "train", "label": "1", "hat": "1"}
    assert [row["label"] for row in seen] == ["0", "1", "0"] * 2
    assert [row["a_hat"] for row in seen] == [False, True, False] * 2


def test_a_tar_that_is_cut_short_and_rows_that_are_not_there_are_rejected(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    tar_of(folder / "a.tar", {f"{i}.png": image(i) + b"\0" * 2000 for i in range(3)})
    (folder / "a.tar").write_bytes((folder / "a.tar").read_bytes()[:4000])
    pq.write_table(pa.table({"jpg": [image(7), None]}), folder / "b.parquet")
    names = [*(f"a.tar/{i}.png" for i in (0, 1, 9)), *(f"b.parquet/{row}" for row in "012x"), "c.tar/1.png"]
    (tmp_path / "t.csv").write_text("\n".join(["file", *names, "../x.tar/1.png"]))
    config = DataConfig(images=folder, table=tmp_path / "t.csv", size=12, max_rejected=1)
    (shard,) = ingested(tmp_path / "w", config, 20)
    assert read_shard(shard)["path"].to_pylist() == ["a.tar/0.png", "b.parquet/0"]
    found = find_shard(tmp_path / "w", "rejected", "r", "00000")
    assert found is not None
    rejected = read_shard(found).to_pylist()
    missing = dict.fromkeys([names[2], *names[4:]], "missing")
    refused = {"../x.tar/1.png": "outside", "a.tar/1.png": "truncated"}
    assert {row["path"]: row["reason"] for row in rejected} == missing | refused


def test_what_is_not_that_data_set_is_refused_with_the_way_out(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["import-data", "celebb", str(tmp_path), "-o", str(tmp_path / "t.parquet")])
    assert answer.exit_code == 2 and "there are celeba, celeba-hq, bdd100k" in answer.stderr.replace("\n", " ")
    for form, way_out in {"celeba": "list_attr_celeba.txt", "bdd100k": "det_train.json", "webdataset": "no image"}.items():
        with pytest.raises(ValueError, match=way_out):
            table_of(form, tmp_path, tmp_path / "t.parquet")
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_to_write_into_the_configuration(tmp_path: Path) -> None:
    put(tmp_path / "pets", {"cat/1.png": image(1), "dog/2.png": image(2)})
    answer = CliRunner().invoke(app, ["import-data", "imagefolder", str(tmp_path / "pets"), "-o", str(tmp_path / "t.parquet")])
    assert answer.exit_code == 0, answer.output
    assert "2 images" in answer.stdout and "split_column: split, label_column:" in answer.stdout
    config = DataConfig(images=tmp_path / "pets", table=tmp_path / "t.parquet", label_column="label")
    assert (check(config).n, check(config).labels) == (2, ("cat", "dog"))
    before = fingerprint(config)
    put(tmp_path / "pets", {"dog/2.png": image(3)})
    assert fingerprint(config) != before
