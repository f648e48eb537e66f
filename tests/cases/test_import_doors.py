"""Folders, tars and tables as people keep them: what an import makes of them, says of them, or refuses."""

import csv
import io
import json
import os
import tarfile
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from cfx.errors import UserError
from cfx.images import Refused
from flows.cli import app
from tasks.data.files import names_below, read
from tasks.data.formats import Written, table_of
from tasks.data.formats.source import Choices

Files = dict[str, bytes | str]


def image(i: int = 0, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (i * 7 % 256, 9, 200)).save(buffer, kind)
    return buffer.getvalue()


def put(folder: Path, *names: str, **files: Any) -> Path:
    """Images of these names, and files of these contents."""
    contents: Files = {name: image(i) for i, name in enumerate(names)} | files.pop("files", {})
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def imported(folder: Path, form: str = "imagefolder", **choices: Any) -> tuple[list[dict[str, Any]], Written]:
    to = folder.parent / "t.parquet"
    written = table_of(form, folder, to, Choices(**choices))
    return pq.read_table(to).to_pylist(), written


def left_out(written: Written) -> list[str]:
    return [str(reason) for reason in written.left_out]


def places(rows: list[dict[str, Any]]) -> list[tuple[str | None, str | None]]:
    return [(row["split"], row["label"]) for row in rows]


# Splits and classes -----------------------------------------------------------------------------------------------------------

LAYOUTS: dict[str, tuple[list[str], list[tuple[str | None, str | None]], str]] = {
    "valid and invalid": (["invalid/1.png", "valid/2.png"], [(None, "invalid"), (None, "valid")], "'valid' taken as a class"),
    "control and test": (["control/1.png", "test/2.png"], [(None, "control"), (None, "test")], "'test' taken as a class"),
    "train and good": (["good/1.png", "train/2.png"], [(None, "good"), (None, "train")], "'train' taken as a class"),
    "train, bus, car": (["bus/1.png", "car/2.png", "train/3.png"], [(None, n) for n in ("bus", "car", "train")], "'train' taken"),
    "test and dev alone": (["dev/1.png", "test/2.png"], [(None, "dev"), (None, "test")], "'dev', 'test' taken as classes"),
    "Test and Control": (["Control/1.png", "Test/2.png"], [(None, "Control"), (None, "Test")], "'Test' taken as a class"),
    "with folders below": (["control/a/1.png", "test/a/2.png"], [(None, "control"), (None, "test")], "'test' taken as a class"),
    "train and test": (
        ["test/cat/1.png", "test/dog/2.png", "train/cat/3.png", "train/dog/4.png"],
        [("test", "cat"), ("test", "dog"), ("train", "cat"), ("train", "dog")],
        "folders read as splits 'test', 'train' of 2 classes: 'cat', 'dog'",
    ),
    "Training and Validation": (
        ["Training/cat/1.png", "Validation/cat/2.png"],
        [("train", "cat"), ("validation", "cat")],
        "splits 'train', 'validation' of 1 classes",
    ),
    "valid and test": (["test/cat/1.png", "valid/cat/2.png"], [("test", "cat"), ("validation", "cat")], "splits"),
    "a test without classes": (["test/1.png", "train/cat/2.png"], [("test", None), ("train", "cat")], "1 images lie in no class"),
    "a class that only the test has": (
        ["test/crack/1.png", "test/good/2.png", "train/good/3.png"],
        [("test", "crack"), ("test", "good"), ("train", "good")],
        "classes that not every split has: 'crack'",
    ),
    "no classes": (["test/1.png", "train/2.png"], [("test", None), ("train", None)], "splits 'test', 'train' of 0 classes"),
    "splits in classes": (
        ["cat/train/1.png", "cat/val/2.png", "dog/train/3.png"],
        [("train", "cat"), ("validation", "cat"), ("train", "dog")],
        "splits 'train', 'validation' of 2 classes",
    ),
    "train and test as classes of splits": (
        ["test/bus/1.png", "test/train/2.png", "train/bus/3.png", "train/train/4.png"],
        [("test", "bus"), ("test", "train"), ("train", "bus"), ("train", "train")],
        "2 classes: 'bus', 'train'",
    ),
    "classes with folders": (["cat/persian/1.png", "dog/2.png"], [(None, "cat"), (None, "dog")], "2 classes: 'cat', 'dog'"),
    "no folders": (["1.png"], [(None, None)], "0 classes"),
}


@pytest.mark.parametrize("what", LAYOUTS)
def test_folders_are_splits_in_a_scheme_and_classes_otherwise(what: str, tmp_path: Path) -> None:
    names, expected, said = LAYOUTS[what]
    rows, written = imported(put(tmp_path / "d", *names))
    assert places(rows) == expected
    assert said in " ".join(written.remarks)


AMBIGUOUS = {
    "vehicles and equipment": (["test/rack/1.png", "train/steam/2.png"], "may be splits or classes.*--splits or --no-splits"),
    "a third folder": (["extra/1.png", "test/cat/2.png", "train/cat/3.png"], "look like splits, 'extra' does not"),
}


@pytest.mark.parametrize("what", AMBIGUOUS)
def test_folders_that_may_be_either_are_refused_until_somebody_says_it(what: str, tmp_path: Path) -> None:
    names, words = AMBIGUOUS[what]
    folder = put(tmp_path / "d", *names)
    with pytest.raises(UserError, match=words):
        imported(folder)
    assert {split for split, _ in places(imported(folder, splits=True)[0])} >= {"train", "test"}
    rows, _ = imported(folder, splits=False)
    assert [row["label"] for row in rows] == [name.split("/")[0] for name in names]


def test_splits_that_are_not_there_cannot_be_wanted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--splits: no folder of .* it has 'cat', 'dog'"):
        imported(put(tmp_path / "d", "cat/1.png", "dog/2.png"), splits=True)


FILE_SPLITS = {
    "Hugging Face": (["data/train-00000-of-00001", "data/test-00000-of-00001"], {"train", "test"}),
    "folders": (["train/a", "val/b"], {"train", "validation"}),
    "valid and invalid": (["valid", "invalid"], {None}),
    "control and test": (["control-0", "test-0"], {None}),
    "in folders": (["control/a", "test/b"], {None}),
    "one file": (["train"], {"train"}),
}


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
@pytest.mark.parametrize("what", FILE_SPLITS)
def test_files_are_splits_all_or_none(what: str, form: str, tmp_path: Path) -> None:
    names, expected = FILE_SPLITS[what]
    for i, name in enumerate(names):
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == "parquet":
            pq.write_table(pa.table({"image": [image(i)]}), f"{path}.parquet")
        else:
            tar_of(Path(f"{path}.tar"), {"0.png": image(i)})
    rows, written = imported(tmp_path / "d", form)
    assert {row["split"] for row in rows} == expected
    assert ("no splits" in " ".join(written.remarks)) == (expected == {None})


# What is no image, and what is one under another name -------------------------------------------------------------------------

PASSED_OVER = [
    "__MACOSX/cat/._1.png",
    "__MACOSX/1.png",
    "cat/._1.png",
    "cat/.DS_Store",
    ".ipynb_checkpoints/1.png",
    "cat/.ipynb_checkpoints/1-checkpoint.png",
    "@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg",
    "cat/Thumbs.db",
    "cat/desktop.ini",
    ".git/1.png",
    "cat/.1.png.swp",
]


def test_what_systems_put_beside_images_is_no_class_and_no_image_and_is_counted(tmp_path: Path) -> None:
    rows, written = imported(put(tmp_path / "d", "cat/1.png", "dog/2.png", *PASSED_OVER))
    assert [row["file"] for row in rows] == ["cat/1.png", "dog/2.png"] and {row["label"] for row in rows} == {"cat", "dog"}
    assert left_out(written) == [
        f"{len(PASSED_OVER)} hidden or of a system: .git/1.png, .ipynb_checkpoints/1.png, @eaDir/1.png/SYNOPHOTO_THUMB_M.jpg, …"
    ]


KINDS = {
    "a.pgm": "PPM",
    "a.pnm": "PPM",
    "a.jfif": "JPEG",
    "a.jpe": "JPEG",
    "a.JPG": "JPEG",
    "a.PnG": "PNG",
    "a": "JPEG",
    "a.1": "PNG",
    "a.jpg_large": "JPEG",
    "a.heic": "HEIF",
    "a.HEIF": "HEIF",
    "a.avif": "AVIF",
    "a.bin": "WEBP",
    "a.mpo": "JPEG",
}


@pytest.mark.parametrize("name", KINDS)
def test_the_content_makes_an_image(name: str, tmp_path: Path) -> None:
    folder = put(tmp_path / "d", files={f"cat/{name}": image(1, KINDS[name])})
    assert [row["file"] for row in imported(folder)[0]] == [f"cat/{name}"]
    tar_of(tmp_path / "t" / "a.tar", {f"0{Path(name).suffix}": image(1, KINDS[name])})
    assert len(imported(tmp_path / "t", "webdataset")[0]) == 1


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    files: Files = {f"cat/{i}.txt": "a cat" for i in range(5)} | {"cat/9.dng": image(1, "TIFF"), "cat/8.psd": b"8BPS\0\1"}
    rows, written = imported(put(tmp_path / "d", "cat/1.png", files=files | {"README": "hello"}))
    assert len(rows) == 1
    assert left_out(written) == [
        "7 not an image that is read: README, cat/0.txt, cat/1.txt, …",
        "1 raw files of a camera, to be exported as JPEG or PNG: cat/9.dng",
    ]


def test_nothing_but_other_files_is_refused_with_their_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no image .*; left out: 1 not an image that is read: cat/a.svg"):
        imported(put(tmp_path / "d", files={"cat/a.svg": "<svg/>"}))


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "1.png")
    folder = put(tmp_path / "d", "dog/2.png")
    (folder / "cat").symlink_to(tmp_path / "elsewhere")
    (folder / "dog" / "again").symlink_to(folder)
    assert names_below(folder) == ["cat/1.png", "dog/2.png"]


def test_names_that_no_table_can_hold_are_left_out_by_name(tmp_path: Path) -> None:
    folder = put(tmp_path / "d", "cat/1.png", "old.tar/2.png")
    with open(os.fsencode(folder / "cat") + b"/\xff.png", "wb") as file:
        file.write(image())
    rows, written = imported(folder)
    assert [row["file"] for row in rows] == ["cat/1.png"]
    assert sorted(line[:40] for line in left_out(written)) == [
        "1 in a folder that is called like an arc",
        "1 of a name that is not UTF-8, to be ren",
    ]


def test_class_names_with_blanks_and_accents(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    folder = put(tmp_path / "d", "big cat/1.png", f"{composed}/2.png", f"{apart}/3.png", "Dog/4.png", "dog/5.png")
    rows, written = imported(folder)
    assert sorted(row["label"] for row in rows) == ["Dog", "big cat", "dog", composed, composed]
    assert all((folder / row["file"]).is_file() for row in rows)
    assert f"2 folders are called {composed!r}, in different bytes: they are one class" in written.remarks
    assert "'Dog', 'dog' differ in case alone and are 2 classes" in written.remarks


# Samples of several images ----------------------------------------------------------------------------------------------------

SEVERAL: dict[str, tuple[list[str], str, list[str]]] = {
    "a dotted mask": (["a/1.jpg", "a/1.seg.png", "a/2.jpg"], "jpg", ["a/1.jpg", "a/2.jpg"]),
    "a mask": (["a/1.jpg", "a/1_mask.png"], "jpg", ["a/1.jpg"]),
    "a MASK": (["a/1.png", "a/1-MASK.png"], "png", ["a/1.png"]),
    "a segmentation": (["a/1.png", "a/1_segmentation.png"], "png", ["a/1.png"]),
    "a label": (["a/1.png", "a/1_label.png"], "png", ["a/1.png"]),
    "ground truth": (["a/1.png", "a/1_gt.png"], "png", ["a/1.png"]),
    "a mask, wanted": (["a/1.jpg", "a/1_mask.png"], "mask.png", ["a/1_mask.png"]),
    "input and output": (["a/1/input.png", "a/1/output.png", "a/2/input.png"], "input.png", ["a/1/input.png", "a/2/input.png"]),
    "named input and output": (["a/1_input.png", "a/1_output.png"], "input.png", ["a/1_input.png"]),
    "image and mask": (["a/1/image.jpg", "a/1/mask.png"], "image.jpg", ["a/1/image.jpg"]),
    "one of two endings each": (["a/1.jpg", "a/1.png", "a/2.jpg", "a/2.png"], "jpg", ["a/1.jpg", "a/2.jpg"]),
}


@pytest.mark.parametrize("what", SEVERAL)
def test_a_sample_of_several_images_is_refused_until_one_is_chosen(what: str, tmp_path: Path) -> None:
    names, key, expected = SEVERAL[what]
    folder = put(tmp_path / "d", *names)
    with pytest.raises(UserError, match=r"the sample 'a/1/?' has several images \(.*\); --image-key "):
        imported(folder)
    rows, written = imported(folder, image_key=(key,))
    assert [row["file"] for row in rows] == expected
    assert left_out(written)[0].startswith(f"{len(names) - len(expected)} of another key than --image-key: a/")


@pytest.mark.parametrize(
    "names", [("images/1.png", "masks/1.png"), ("train/image/1.png", "train/label/1.png", "train/label/2.png")]
)
def test_folders_of_images_and_masks_are_no_classes(names: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="look like parts of the same samples, not classes"):
        imported(put(tmp_path / "d", *names))


@pytest.mark.parametrize(
    "names",
    [
        ("cat.0.jpg", "cat.1.jpg", "dog.0.jpg"),
        ("mask/1.png", "no_mask/1.png"),
        ("a/1_mask.png", "a/2_mask.png"),
        ("a/label.png", "b/label.png"),
        ("a/1.jpg", "a/1.png", *(f"a/{i}.jpg" for i in range(2, 9))),
        ("a/IMG.2020.01.png", "a/IMG.2020.02.png"),
        ("with_mask/1.png", "with_mask/2.png"),
        ("images/1.png", "drawings/1.png"),
    ],
    ids=["Kaggle's cats", "face masks", "all masks", "one role", "a few twins", "dates", "classes with masks", "images"],
)
def test_images_of_their_own_stay_such(names: tuple[str, ...], tmp_path: Path) -> None:
    assert len(imported(put(tmp_path / "d", *names))[0]) == len(names)


# Metadata of Hugging Face -----------------------------------------------------------------------------------------------------

TOLD: list[dict[str, Any]] = [{"file_name": "cat/1.png", "label": "tabby", "hat": 1}, {"file_name": "dog/2.png", "label": "pug"}]


def metadata(kind: str, rows: list[dict[str, Any]]) -> bytes:
    if kind == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()
    if kind == "jsonl":
        return b"\n".join(json.dumps(row, ensure_ascii=False).encode() for row in rows)
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{key: row.get(key) for key in rows[0]} for row in rows]), sink)
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_kind_of_metadata_is_honoured(kind: str, tmp_path: Path) -> None:
    names = ["cat/1.png", "dog/2.png", "dog/3.png"]
    rows, written = imported(put(tmp_path / "d", *names, files={f"metadata.{kind}": metadata(kind, TOLD)}))
    assert [row["label"] for row in rows] == ["tabby", "pug", "dog"] and rows[0]["hat"] == "1"
    assert "1 images are in no metadata file" in written.remarks and not written.left_out


LINE = '{"file_name": "cat/1.png", "label": "tabby", "note": "one\u2028two\x85three"}'
READ = {
    "U+2028 in a text": ("jsonl", LINE.encode()),
    "blank lines": ("jsonl", f"\n{LINE}\n\n   \n".encode()),
    "CRLF": ("jsonl", f"{LINE}\r\n".encode()),
    "BOM of JSON": ("jsonl", b"\xef\xbb\xbf" + LINE.encode()),
    "BOM of CSV": ("csv", b"\xef\xbb\xbffile_name,label\ncat/1.png,tabby\n"),
    "a quoted line break": ("csv", b'file_name,note,label\ncat/1.png,"one\r\ntwo",tabby\n'),
    "U+2028 in CSV": ("csv", "file_name,note,label\ncat/1.png,one\u2028two,tabby\n".encode()),
    "backslashes": ("csv", b"file_name,label\ncat\\1.png,tabby\n"),
    "./": ("csv", b"file_name,label\n./cat/1.png,tabby\n"),
    "NaN": ("jsonl", b'{"file_name": "cat/1.png", "label": "tabby", "hat": NaN}'),
}


@pytest.mark.parametrize("what", READ)
def test_metadata_are_read_as_they_were_meant(what: str, tmp_path: Path) -> None:
    kind, content = READ[what]
    rows, _ = imported(put(tmp_path / "d", "cat/1.png", files={f"metadata.{kind}": content}))
    assert [row["label"] for row in rows] == ["tabby"] and rows[0].get("hat") is None


def test_accents_of_a_file_name_need_not_be_in_the_same_bytes(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    rows, _ = imported(put(tmp_path / "d", apart, files={"metadata.csv": f"file_name,label\n{composed},tabby\n"}))
    assert rows == [{"file": apart, "split": None, "label": "tabby"}]


def test_classes_of_a_parquet_are_named_and_its_splits_count(tmp_path: Path) -> None:
    note = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
    table = pa.table({"file_name": ["1.png", "2.png"], "label": [1, -1], "split": ["dev", "test"]})
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(note)}), sink)
    rows, _ = imported(put(tmp_path / "d", "1.png", "2.png", files={"metadata.parquet": sink.getvalue()}))
    assert places(rows) == [("dev", "dog"), ("test", None)]


BROKEN: dict[str, tuple[Files, str]] = {
    "two files": ({"metadata.csv": "file_name\n", "metadata.jsonl": ""}, "has 'metadata.csv', 'metadata.jsonl', and one would"),
    "twice": ({"metadata.csv": "file_name,a\n1.png,1\n1.png,2\n"}, "an earlier row is about '1.png' too"),
    "no file_name": ({"metadata.csv": "file,a\n1.png,1\n"}, "has no file_name"),
    "no JSON": ({"metadata.jsonl": '{"file_name": "1.png"}\n{"file_na'}, "line 2 is no JSON"),
    "a list": ({"metadata.jsonl": "[1]\n"}, r"line 1 is '\[1\]'; a line holds one object"),
    "latin-1": ({"metadata.csv": "file_name,a\n1.png,é\n".encode("latin-1")}, "metadata.csv cannot be read: .*save it as UTF-8"),
    "ragged": ({"metadata.csv": "file_name,a\n1.png,one, two\n"}, "row 1 has more cells than the header"),
    "no Parquet": ({"metadata.parquet": "oops"}, "metadata.parquet cannot be read"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_metadata_that_cannot_be_right_are_refused(what: str, tmp_path: Path) -> None:
    files, words = BROKEN[what]
    with pytest.raises(UserError, match=words):
        imported(put(tmp_path / "d", "1.png", files=files))


def test_metadata_of_what_is_not_there_are_counted(tmp_path: Path) -> None:
    _, written = imported(put(tmp_path / "d", "1.png", files={"metadata.csv": "file_name\n1.png\n2.png\n"}))
    assert left_out(written) == ["1 in the metadata, but no image of the folder: 2.png"]


# WebDataset -------------------------------------------------------------------------------------------------------------------


def tar_of(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path.parent


Row = dict[str, str | None]
MEMBERS: dict[str, tuple[dict[str, bytes], dict[str, Any], Row]] = {
    "text before label": ({"0.txt": b"a cat", "0.cls": b"3\n", "0.jpg": image()}, {}, {"label": "3"}),
    "label before text": ({"0.cls": b"3", "0.jpg": image(), "0.txt": b"a cat"}, {}, {"label": "3"}),
    "text alone": ({"0.jpg": image(), "0.txt": b"a cat"}, {}, {"label": None}),
    "text wanted": ({"0.jpg": image(), "0.txt": b"cat", "0.cls": b"3"}, {"label_key": "txt"}, {"label": "cat"}),
    "cls.txt": ({"0.cls.txt": b"cat", "0.jpg": image(), "0.txt": b"a cat"}, {}, {"label": "cat"}),
    "BOM": ({"0.cls": b"\xef\xbb\xbfcat\r\n", "0.jpg": image()}, {}, {"label": "cat"}),
    "a list": ({"0.jpg": image(), "0.json": b"[1, 2]"}, {}, {"label": None}),
    "a number": ({"0.jpg": image(), "0.json": b"7"}, {}, {"label": None}),
    "names of ours": (
        {"0.jpg": image(), "0.json": b'{"file": "x.jpg", "split": "dev", "label": "dog", "hat": NaN}', "0.cls": b"cat"},
        {},
        {"label": "cat", "split": None, "json_file": "x.jpg", "json_split": "dev", "json_label": "dog", "hat": None},
    ),
    "./": ({"./0.jpg": image(), "./0.cls": b"1"}, {}, {"file": "a.tar/./0.jpg", "label": "1"}),
    "folders": ({"x/y/0.jpg": image(), "x/y/0.cls": b"1"}, {}, {"file": "a.tar/x/y/0.jpg", "label": "1"}),
    "hidden": ({"._0.jpg": b"Mac", "0.jpg": image(), "__MACOSX/0.jpg": b"Mac"}, {}, {"file": "a.tar/0.jpg"}),
    "upper case": ({"0.JPG": image(), "0.CLS": b"1"}, {}, {"file": "a.tar/0.JPG", "label": "1"}),
    "a mask, chosen": ({"0.jpg": image(), "0.seg.png": image(1)}, {"image_key": ("jpg",)}, {"file": "a.tar/0.jpg"}),
    "the first there": ({"0.png": image(), "0.seg.png": image(1)}, {"image_key": ("jpg", "png")}, {"file": "a.tar/0.png"}),
    "an output, chosen": (
        {"0.input.png": image(), "0.output.png": image(1)},
        {"image_key": ("input.png",)},
        {"file": "a.tar/0.input.png"},
    ),
}


@pytest.mark.parametrize("what", MEMBERS)
def test_a_sample_becomes_a_row(what: str, tmp_path: Path) -> None:
    members, choices, expected = MEMBERS[what]
    rows, _ = imported(tar_of(tmp_path / "d" / "a.tar", members), "webdataset", **choices)
    assert len(rows) == 1 and {key: rows[0][key] for key in expected} == expected
    assert read(tmp_path / "d", rows[0]["file"], 10**6) == image()


REFUSED: dict[str, tuple[list[tuple[str, bytes]], dict[str, Any], str]] = {
    "a mask": ([("0.jpg", image()), ("0.seg.png", image())], {}, "'a.tar/0' has several images .jpg, seg.png.; --image-key jpg"),
    "an output": ([("0.input.png", image()), ("0.output.png", image())], {}, "several images .input.png, output.png"),
    "an output in a folder": ([("0/input.png", image()), ("0/output.png", image())], {}, "several images .input.png, output.png"),
    "an underscored mask": ([("0.jpg", image()), ("0_mask.png", image())], {}, "several images .jpg, mask.png"),
    "twice in a row": ([("0.jpg", image()), ("0.jpg", image(1))], {}, "the sample '0' has two images 'jpg'"),
    "twice": ([("0.jpg", image()), ("1.jpg", image()), ("0.jpg", image(1))], {}, "the sample '0' is there twice"),
    "not side by side": ([("0.jpg", image()), ("1.jpg", image()), ("0.cls", b"1")], {}, "do not lie side by side"),
    "no JSON": ([("0.jpg", image()), ("0.json", b"{")], {}, "0.json is no JSON"),
    "no such label": ([("0.jpg", image()), ("0.cls", b"1")], {"label_key": "txt"}, "--label-key: no sample of .* 'txt'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_tar_that_can_be_read_in_two_ways_is_refused(what: str, tmp_path: Path) -> None:
    members, choices, words = REFUSED[what]
    with pytest.raises(UserError, match=words):
        imported(tar_of(tmp_path / "d" / "a.tar", members), "webdataset", **choices)


def test_what_became_of_a_tar_is_said(tmp_path: Path) -> None:
    members = {"0.jpg": image(), "0.txt": b"a cat", "0.json": b"[]", "1.txt": b"a dog", "inner.tar": b"x"}
    folder = put(tar_of(tmp_path / "d" / "a.tar", members), files={"b.tar.gz": b"x", "README.md": "x"})
    rows, written = imported(folder, "webdataset")
    assert len(rows) == 1 and "--label-key txt takes the .txt" in written.remarks[0]
    assert sorted(left_out(written)) == [
        "1 .json that hold no object: 0.json",
        "1 compressed, to be unpacked to .tar: b.tar.gz",
        "1 no .tar file: README.md",
        "2 without image: a.tar/1, a.tar/inner",
    ]


def test_a_file_that_is_no_tar_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="b.tar cannot be read"):
        imported(put(tmp_path / "d", files={"b.tar": b"oops" * 400}), "webdataset")


def test_fields_that_only_later_samples_have_are_columns_too(tmp_path: Path) -> None:
    members = {"0.jpg": image(), "1.jpg": image(1), "1.json": b'{"hat": 1}'}
    rows, _ = imported(tar_of(tmp_path / "d" / "a.tar", members), "webdataset")
    assert [row["hat"] for row in rows] == [None, "1"]


# Parquet and Arrow ------------------------------------------------------------------------------------------------------------


def parquet_of(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path.parent


def test_images_in_structs_are_read_and_paths_alone_are_named(tmp_path: Path) -> None:
    cells = [{"bytes": image(), "path": "0.png"}, {"bytes": None, "path": "elsewhere/1.png"}]
    rows, _ = imported(parquet_of(tmp_path / "d" / "a.parquet", image=cells, hat=[1, 0]), "parquet")
    assert read(tmp_path / "d", rows[0]["file"], 10**6) == image()
    with pytest.raises(Refused, match="row 1 of a.parquet, which holds no bytes, only the path 'elsewhere/1.png'"):
        read(tmp_path / "d", rows[1]["file"], 10**6)


def test_one_of_several_columns_of_images_is_chosen(tmp_path: Path) -> None:
    folder = parquet_of(tmp_path / "d" / "a.parquet", input=[image(1)], output=[image(2)])
    with pytest.raises(UserError, match="several columns of images, input, output; choose one: .* --image-key input"):
        imported(folder, "parquet")
    for i, key in enumerate(("input", "output"), 1):
        rows, _ = imported(folder, "parquet", image_key=(key,))
        assert read(folder, rows[0]["file"], 10**6) == image(i)
    with pytest.raises(UserError, match="no column 'mask' of bytes; it has input, output"):
        imported(folder, "parquet", image_key=("mask",))


def test_the_usual_column_of_images_needs_no_choice(tmp_path: Path) -> None:
    folder = parquet_of(tmp_path / "d" / "a.parquet", mask=[image(1)], image=[image(2)])
    rows, _ = imported(folder, "parquet")
    assert read(folder, rows[0]["file"], 10**6) == image(2)


def test_a_column_of_splits_counts_more_than_the_name_of_the_file(tmp_path: Path) -> None:
    folder = parquet_of(tmp_path / "d" / "train.parquet", image=[image(), image(1)], split=["a", "b"], file=["x", "y"])
    rows, written = imported(folder, "parquet")
    assert [row["split"] for row in rows] == ["a", "b"]
    assert "the column 'file' of the data is left out" in written.remarks[0]


def test_other_tables_beside_are_left_out_by_name(tmp_path: Path) -> None:
    folder = parquet_of(tmp_path / "d" / "a.parquet", image=[image()])
    put(parquet_of(folder / "b.parquet", text=["x"]), files={"cache-1.arrow": b"", "README.md": ""})
    rows, written = imported(folder, "huggingface")
    assert len(rows) == 1
    assert sorted(left_out(written)) == [
        "1 a cache of Hugging Face: cache-1.arrow",
        "1 no .parquet or .arrow file: README.md",
        "1 without a column of image bytes: b.parquet",
    ]


def test_a_class_without_a_name_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    note = {"info": {"features": {"label": {"names": ["cat"]}}}}
    table = pa.table({"image": [image()], "label": [1]}).replace_schema_metadata({"huggingface": json.dumps(note)})
    (tmp_path / "d").mkdir()
    pq.write_table(table, tmp_path / "d" / "a.parquet")
    with pytest.raises(UserError, match="class 1 has no name; the schema names 1, cat"):
        imported(tmp_path / "d", "parquet")
    with pytest.raises(UserError, match="b.arrow cannot be read"):
        imported(put(tmp_path / "e", files={"b.arrow": b"oops"}), "huggingface")


# The command ------------------------------------------------------------------------------------------------------------------


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["import-data", *map(str, arguments)])


def test_the_command_says_how_it_read_and_what_it_left_out(tmp_path: Path) -> None:
    folder, to = put(tmp_path / "d", "control/1.png", "test/2.png", files={"notes.txt": ""}), tmp_path / "t.parquet"
    shown = command("imagefolder", folder, "-o", to).stdout
    assert "'test' taken as a class, not as splits; --splits or --no-splits says which" in shown
    assert "left out: 1 not an image that is read: notes.txt" in shown
    found = json.loads(command("imagefolder", folder, "-o", to, "--json").stdout.splitlines()[-1])
    assert found["rows"] == 2 and len(found["remarks"]) == 2
    assert found["left_out"] == [{"files": 1, "reason": "not an image that is read", "first": ["notes.txt"]}]


def test_the_command_takes_the_choices(tmp_path: Path) -> None:
    folder, to = put(tmp_path / "d", "train/a/1.jpg", "train/a/1_mask.png"), tmp_path / "t.parquet"
    refused = command("imagefolder", folder, "-o", to)
    assert refused.exit_code == 2 and "--image-key jpg" in refused.stderr and not to.exists()
    assert command("imagefolder", folder, "-o", to, "--image-key", "jpeg, jpg", "--no-splits").exit_code == 0
    assert pq.read_table(to).to_pylist() == [{"file": "train/a/1.jpg", "split": None, "label": "train"}]
    refused = command("celeba", folder, "-o", to, "--image-key", "jpg")
    assert refused.exit_code == 2 and "--image-key: celeba is read in one way only" in refused.stderr
