"""What `cfx train` learns from: which images and columns of a table, what is left out of it, and when that is too much."""

import io
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cfx.checkpoint import read_facts
from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.errors import UserError
from flows.cli import app
from tasks.data.ingest import DataConfig
from tasks.training.folder_images import folder_images
from tasks.training.lesson import Lesson, attributes_of, classes_of

N = 12


def image(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (i * 11 % 256, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def grey_12_bits(i: int) -> bytes:
    """12 bits in the lowest of a PNG's 16, without a word of it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    lines = b"".join(b"\0" + struct.pack(">8H", *[4095 - i] * 8) for _ in range(8))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def folder_of(path: Path, n: int = N, names: list[str] | None = None) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names or [f"{i:02}.png" for i in range(n)]):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(image(i))
    return path


def data(folder: Path, columns: dict[str, list[Any]], **settings: Any) -> DataConfig:
    """A table of these columns beside a folder."""
    table = folder.parent / "t.csv"
    names = list(columns)
    lines = [",".join("" if value is None else str(value) for value in row) for row in zip(*columns.values(), strict=True)]
    table.write_text("\n".join([",".join(names), *lines, ""]))
    return DataConfig(images=folder, table=table, **{"size": 8} | settings)


FILES = [f"{i:02}.png" for i in range(N)]
HALF = [i % 2 for i in range(N)]
LABELS = ["cat" if i % 2 else "dog" for i in range(N)]


def reds(lesson: Lesson) -> list[int]:
    return lesson.images[:, 0, 0, 0].tolist()


# The same reader as the audit -------------------------------------------------------------------------------------------------


def test_members_of_tars_and_rows_of_parquet_are_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d", 4)
    with tarfile.open(folder / "a.tar", "w") as tar:
        for i in range(4, 8):
            info = tarfile.TarInfo(f"x/{i}.png")
            info.size = len(image(i))
            tar.addfile(info, io.BytesIO(image(i)))
    cells = [{"bytes": image(i), "path": None} for i in range(8, N)]
    pq.write_table(pa.table({"image": cells}), folder / "b.parquet")
    names = [*FILES[:4], *(f"a.tar/x/{i}.png" for i in range(4, 8)), *(f"b.parquet/{i}" for i in range(4))]
    config = data(folder, {"file": names, "label": LABELS, "hat": HALF}, label_column="label")
    for lesson in (classes_of(config), attributes_of(config)):
        assert sorted(reds(lesson)) == [i * 11 for i in range(N)] and not lesson.remarks.counts
    found = dict(zip(reds(classes_of(config)), classes_of(config).labels.tolist(), strict=True))
    assert found == {i * 11: 0 if i % 2 else 1 for i in range(N)}  # cat, dog


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    config = data(folder_of(tmp_path / "d"), {"path": FILES, "kind": LABELS}, file_column="path", label_column="kind")
    lesson = classes_of(config)
    assert lesson.names == ("cat", "dog") and lesson.labels.tolist() == [1, 0] * 6


# What is not there ------------------------------------------------------------------------------------------------------------

GONE: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"file": [*FILES[:4], *(f"x{i}.png" for i in range(8))]}, "8 missing: x0.png, x1.png, x2.png, …"),
    "named twice": ({"file": [*FILES[:4], *["00.png"] * 8]}, "8 listed_twice: 00.png"),
    "outside": ({"file": [*FILES[:4], *(f"../{i}.png" for i in range(8))]}, "8 outside: ../0.png"),
    "without a name": ({"file": [*FILES[:4], *[None] * 8]}, "8 missing: None"),
    "unlabelled": ({"label": [*LABELS[:4], *[None] * 8]}, "8 without a label: 04.png"),
    "blank": ({"label": [*LABELS[:4], *["  "] * 8]}, "8 without a label: 04.png"),
    "unknown": ({"hat": [*HALF[:4], *[None] * 8]}, "8 without a value of hat: 04.png"),
}


def lesson_of(config: DataConfig, what: str) -> Lesson:
    return attributes_of(config) if what == "unknown" else classes_of(config)


@pytest.mark.parametrize("what", GONE)
def test_what_is_left_out_is_named_and_beyond_a_share_refused(what: str, tmp_path: Path) -> None:
    columns, words = GONE[what]
    folder = folder_of(tmp_path / "d")
    whole: dict[str, list[Any]] = {"file": FILES, "label": LABELS, "hat": HALF}
    whole |= columns
    with pytest.raises(UserError, match=f"max_rejected: 8 of 12 .*{words}.*more than a share of 0.5") as refused:
        lesson_of(data(folder, whole, label_column="label"), what)
    assert "--max-rejected" in str(refused.value)
    lesson = lesson_of(data(folder, whole, label_column="label", max_rejected=0.7), what)
    assert len(lesson.images) == len(lesson.labels) == 4
    assert str(lesson.remarks.left_out()[0]).startswith(words.split(", …")[0])
    (kept,) = lesson.remarks.counts.values()
    assert lesson.facts() == {"images": 4, "left_out": dict(lesson.remarks.counts), "said": list(lesson.remarks.sentences)}
    assert kept == 8


def test_the_case_of_64_images_of_which_44_are_missing(tmp_path: Path) -> None:
    config = data(
        folder_of(tmp_path / "d", 20),
        {"file": [f"{i:02}.png" for i in range(64)], "label": ["a", "b"] * 32},
        label_column="label",
    )
    with pytest.raises(UserError, match=r"44 of 64 .*44 missing: 20.png, 21.png, 22.png, ….*the first: 20.png"):
        classes_of(config)


def test_files_that_are_no_images_and_a_wrong_folder_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d")
    (folder / "00.png").write_bytes(b"text")
    (folder / "01.png").write_bytes(image(1)[:50])
    lesson = classes_of(data(folder, {"file": FILES, "label": LABELS}, label_column="label"))
    assert len(lesson.images) == 10 and lesson.remarks.first["unreadable"][0] == "00.png"
    with pytest.raises(UserError, match="there is no folder"):
        classes_of(data(tmp_path / "nowhere", {"file": FILES, "label": LABELS}, label_column="label"))


# Labels -----------------------------------------------------------------------------------------------------------------------

TOO_FEW: dict[str, tuple[list[Any], str]] = {
    "one class": (["cat"] * N, "'label' names 1 class; a classifier needs two"),
    "one class and blanks": (["cat"] * 8 + [None] * 4, "'label' names 1 class"),
    "one image of a class": (["cat"] * 11 + ["dog"], "class 'dog' has 1 image that can be read; a classifier needs 2"),
}


@pytest.mark.parametrize("what", TOO_FEW)
def test_classes_that_cannot_be_learned_are_refused_by_name(what: str, tmp_path: Path) -> None:
    labels, words = TOO_FEW[what]
    with pytest.raises(UserError, match=words):
        classes_of(data(folder_of(tmp_path / "d"), {"file": FILES, "label": labels}, label_column="label"))


def test_a_class_whose_files_are_all_missing_is_refused_by_name(tmp_path: Path) -> None:
    files = [*FILES[:10], "x.png", "y.png"]
    config = data(folder_of(tmp_path / "d"), {"file": files, "label": ["a", "b"] * 5 + ["c"] * 2}, label_column="label")
    with pytest.raises(UserError, match="class 'c' has 0 image"):
        classes_of(config)


# Attributes -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["label", "Label", "class", "target", "y", "id", "image_id", "idx", "index", "fold", "split", "Unnamed: 0", "is_train"],
)
def test_a_column_that_looks_like_no_attribute_is_refused_unless_it_is_named(name: str, tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"file": FILES, "hat": HALF, name: HALF[::-1]}
    folder = folder_of(tmp_path / "d")
    with pytest.raises(UserError, match=f"'{name}' looks like no attribute; say which to learn: --attributes hat"):
        attributes_of(data(folder, columns))
    assert attributes_of(data(folder, columns, attribute_columns=("hat",))).names == ("hat",)
    assert attributes_of(data(folder, columns, attribute_columns=("hat", name))).names == ("hat", name)


@pytest.mark.parametrize("name", ["Young", "Eyeglasses", "Classic_Hat", "yellow", "Wearing_Hat", "solid", "grid", "holiday"])
def test_an_attribute_is_learned_and_named(name: str, tmp_path: Path) -> None:
    lesson = attributes_of(data(folder_of(tmp_path / "d"), {"file": FILES, name: HALF, "shop": LABELS}))
    assert lesson.names == (name,) and lesson.labels.tolist() == [[i] for i in HALF]
    assert f"1 attributes learned: {name}" in lesson.remarks.sentences


def test_an_attribute_that_is_alike_everywhere_is_not_learned(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d")
    columns: dict[str, list[Any]] = {"file": FILES, "hat": HALF, "bald": [1, *[0] * 11], "face": [1] * N}
    lesson = attributes_of(data(folder, columns))
    assert lesson.names == ("hat",) and lesson.labels.shape == (N, 1)
    assert "not learned, because hardly any image or nearly every image has it: 'bald: 1 of 12', 'face: 12 of 12'" in (
        lesson.remarks.sentences
    )
    with pytest.raises(UserError, match="cannot be learned: 'bald: 1 of 12'; add images"):
        attributes_of(data(folder, columns, attribute_columns=("hat", "bald")))
    with pytest.raises(UserError, match="cannot be learned: 'bald: 1 of 12', 'face: 12 of 12'"):
        attributes_of(data(folder, {name: columns[name] for name in ("file", "bald", "face")}))


# Folders of a prior -----------------------------------------------------------------------------------------------------------


def test_a_prior_learns_from_images_and_not_from_what_lies_beside_them(tmp_path: Path) -> None:
    names = ["a/1.png", "a/2", "b/3.jfif", "__MACOSX/a/._1.png", ".ipynb_checkpoints/1.png", "@eaDir/x.png", "Thumbs.db"]
    folder = folder_of(tmp_path / "d", names=names)
    (folder / "notes.txt").write_text("hello")
    images = folder_images(folder)
    assert [str(file.relative_to(folder)) for file in images.files] == ["a/1.png", "a/2", "b/3.jfif"]
    assert images.left_out[0].startswith("4 hidden or of a system: ") and images.left_out[1].endswith("read: notes.txt")


def test_masks_beside_the_images_of_a_prior_are_refused_until_one_is_chosen(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d", names=["1.jpg", "1_mask.png", "2.jpg", "2_mask.png"])
    with pytest.raises(UserError, match="'1' has several images .*--image-key jpg"):
        folder_images(folder)
    assert [file.name for file in folder_images(folder, ("jpg",)).files] == ["1.jpg", "2.jpg"]


def test_a_prior_is_not_trained_on_files_of_which_most_cannot_be_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d", 10)
    for i in range(5):
        (folder / f"{i:02}.png").write_bytes(b"broken")
    assert len(folder_images(folder).files) == 10
    (folder / "05.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"6 of 10 files tried cannot be read: 00.png \(not an image"):
        folder_images(folder)


def test_12_bits_of_16_are_refused_until_somebody_says_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d")
    for i, name in enumerate(FILES):
        (folder / name).write_bytes(grey_12_bits(i))
    columns = {"file": FILES, "label": LABELS}
    with pytest.raises(UserError, match="12 of 12 files tried cannot be read: .*12 bits, or dark"):
        folder_images(folder)
    with pytest.raises(UserError, match="12 of 12 .*12 depth: .*12 bits, or dark"):
        classes_of(data(folder, columns, label_column="label"))
    assert folder_images(folder, bits=12).bits == 12
    assert (classes_of(data(folder, columns, label_column="label", bits=12)).images >= 254).all()


# The commands -----------------------------------------------------------------------------------------------------------------


def train(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["train", *map(str, arguments), "--quiet"])


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text("{widths: [4], grid: 1, steps: 1, batch: 2}")
    return tmp_path / "tiny.yaml"


def test_the_oracle_says_what_it_learns_and_keeps_it(tmp_path: Path, tiny: Path) -> None:
    config = data(folder_of(tmp_path / "d"), {"path": [*FILES[:11], "x.png"], "hat": HALF, "tie": HALF[::-1]})
    common = (config.images, config.table, "-o", tmp_path / "o.safetensors", "--size", 8, "-c", tiny)
    refused = train("oracle", *common)
    assert refused.exit_code == 2 and "file_column: " in refused.stderr
    shown = train("oracle", *common, "--file-column", "path")
    assert shown.exit_code == 0, shown.output
    said = " ".join(shown.stdout.split())
    assert "11 images 2 attributes learned: hat, tie left out: 1 missing: x.png" in said
    facts = read_facts(tmp_path / "o.safetensors")
    assert facts["attributes"] == ["hat", "tie"]
    assert facts["data"] == {"images": 11, "left_out": {"missing": 1}, "said": ["2 attributes learned: hat, tie"]}
    shown = train("oracle", *common, "--file-column", "path", "--attributes", "tie")
    assert "1 attributes learned: tie" in shown.stdout and read_facts(tmp_path / "o.safetensors")["attributes"] == ["tie"]


def test_the_classifier_says_what_it_leaves_out(tmp_path: Path, tiny: Path) -> None:
    config = data(folder_of(tmp_path / "d"), {"file": [*FILES[:10], "x.png", "y.png"], "kind": LABELS})
    common = (config.images, config.table, "--label", "kind", "-o", tmp_path / "c.safetensors", "--size", 8, "-c", tiny)
    for kind in ("classifier", "robust"):
        shown = train(kind, *common)
        assert shown.exit_code == 0, shown.output
        assert "left out: 2 missing: x.png, y.png" in shown.stdout
        assert read_facts(tmp_path / "c.safetensors")["data"]["left_out"] == {"missing": 2}
        refused = train(kind, *common, "--max-rejected", 0.1)
        assert refused.exit_code == 2 and "2 of 12 images cannot be learned from" in " ".join(refused.stderr.split())
    classifier = load_classifier(ClassifierConfig(weights=tmp_path / "c.safetensors"))
    assert classifier.classes == ("cat", "dog") and classifier(torch.zeros(1, 3, 8, 8)).shape == (1, 2)


def test_a_prior_says_what_it_leaves_out_before_it_trains(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d", names=["1.jpg", "1_mask.png", ".DS_Store"])
    (tmp_path / "prior.yaml").write_text("{size: 16, steps: 1, batch: 1, channels: [32], patch: 2}")
    command = ("prior", folder, "-o", tmp_path / "prior", "-c", tmp_path / "prior.yaml", "--workers", 0)
    assert "--image-key jpg" in train(*command).stderr
    shown = train(*command, "--image-key", "jpg")
    assert shown.exit_code == 0, shown.output
    said = " ".join(shown.stdout.split())
    assert "1 images left out: 1 hidden or of a system: .DS_Store left out: 1 of another key than --image-key: 1_mask.png" in said


def test_arrays_are_what_they_were(tmp_path: Path) -> None:
    lesson = classes_of(data(folder_of(tmp_path / "d"), {"file": FILES, "label": LABELS}, label_column="label"))
    assert lesson.images.dtype == torch.uint8 and lesson.images.shape == (N, 3, 8, 8)
    assert np.array_equal(reds(lesson), [i * 11 for i in range(N)])
