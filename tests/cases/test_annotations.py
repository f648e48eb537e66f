"""Every column of a user's table is used, or said to be left out and why; yes and no in the notations that people write."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cfx.images import encode_png
from tasks.data.annotations import FIXED, Annotations, columns_of, left_out, listing
from tasks.data.ingest import DataConfig
from tasks.data.yes_or_no import why_not, yes_or_no
from tasks.sample import mean_where_unknown
from tasks.training.lesson import attributes_of

UNKNOWN = ("", "  ", "NaN", "nan", "NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "None", "?", "-", "unknown")


def column(cells: Sequence[str | None]) -> pa.ChunkedArray:
    return pa.chunked_array([cells], pa.string())


@pytest.mark.parametrize(
    "pair",
    [
        *(("Yes", "No"), ("yes", "no"), ("YES", "NO"), (" yes ", "no"), ("Y", "N"), ("y", "n"), ("T", "F"), ("t", "f")),
        *(
            ("TRUE", "FALSE"),
            ("on", "off"),
            ("On", "OFF"),
            ("1.00", "0.00"),
            ("1.0", "-1.0"),
            ("1", "-1"),
            ("1.", "0."),
            ("+1", "0"),
        ),
        *(("+1", "0"), ("1e0", "0e0"), ("true", "0"), ("1", "F")),
    ],
    ids="/".join,
)
def test_a_pair_is_yes_and_no_beside_every_word_for_unknown(pair: tuple[str, str]) -> None:
    found = yes_or_no(column([*pair, None, *UNKNOWN]))
    assert found is not None and found.to_pylist() == [True, False, *[None] * (len(UNKNOWN) + 1)]


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (["0", "-1", "1"], "both 0 and -1"),
        (["0", "-1"], "both 0 and -1"),
        (["0.0", "-1.00", "1"], "both 0 and -1"),
        (["0", "1", "2"], "numbers, not yes/no: 3 values, 0, 1, 2"),
        (["0.5", "1"], "numbers, not yes/no: 2 values, 0.5, 1"),
        ([str(n) for n in range(18, 80)], "numbers, not yes/no: 62 values, 18 to 79"),
        (["7"], "numbers, not yes/no: 1 value, 7"),
        (["inf", "1"], "numbers, not yes/no"),
        (["yes", "0", "1"], "several notations (0, 1, yes)"),
        (["on", "no"], "several notations"),
        (["yes", "no", "maybe"], "text, not yes/no: 3 values, 'maybe', 'no', 'yes'"),
        (["yes", "none"], "'none' beside 'yes' may mean no or unknown"),
        (["1", "-"], "'-' beside '1' may mean no or unknown"),
        ([f"words {n}" for n in range(57)], "text, not yes/no: 57 values"),
        ([str(n) for n in range(5000)], "numbers, not yes/no: 5,000 values, 0 to 4999"),
        (["1", "0", "l"], "text, not yes/no: 3 values"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_not_yes_or_no_says_why(cells: list[str], why: str) -> None:
    assert yes_or_no(column(cells)) is None
    assert why in (why_not(column(cells)) or "")


COLUMNS: dict[str, Any] = {  # name -> cells of three rows, CSV
    "file": (("a.png", "b.png", "c.png"), "file", "names the image"),
    "class": (("cat", "dog", ""), "label", "2 different, 1 rows without"),
    "part": (("x", "x", "y"), "split", "2 different"),
    "Yes No": (("Yes", "No", "NA"), "attribute", "yes in 1, no in 1, unknown in 1"),
    "ones": (("1.00", "1", "1.0"), "attribute", "yes in 3; the same wherever it is known"),
    "off": (("off", "", "off"), "attribute", "no in 2, unknown in 1; the same"),
    "age": (("31", "7", ""), "left out", "numbers, not yes/no: 2 values, 7, 31"),
    "note": (("fine", "blurred", ""), "left out", "text, not yes/no: 2 values"),
    "nothing": (("", "NA", "?"), "left out", "empty"),
    "three": (("1", "0", "-1"), "left out", "both 0 and -1"),
    "": (("1", "0", "1"), "left out", "no name"),
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = zip(*(cells for cells, _, _ in COLUMNS.values()), strict=True)
    (tmp_path / "t.csv").write_text("\n".join(map(",".join, [COLUMNS.keys(), *rows])) + "\n")
    return tmp_path / "t.csv"


def test_every_column_has_a_role_and_a_reason(table: Path) -> None:
    uses = columns_of(Annotations(table=table, label_column="class", split_column="part"))
    assert [use.column for use in uses] == list(COLUMNS)
    for use in uses:
        _, role, reason = COLUMNS[use.column]
        assert use.role == role and reason in use.reason, use
    line = left_out(uses)
    assert line is not None and all(repr(use.column) in line for use in uses if use.role == "left out")
    attributes = [f"a_{use.column}" for use in uses if use.role == "attribute"]
    assert listing(Annotations(table=table, label_column="class", split_column="part")).column_names[FIXED:] == attributes


def test_columns_that_are_configured_are_the_only_attributes(table: Path) -> None:
    uses = {use.column: use for use in columns_of(Annotations(table=table, attribute_columns=("ones",), label_column="class"))}
    assert uses["ones"].role == "attribute" and uses["Yes No"].reason == "not among attribute_columns"


def test_nothing_is_said_of_a_table_that_is_used_whole(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,hat\na,yes\nb,no\n")
    assert left_out(columns_of(Annotations(table=tmp_path / "t.csv"))) is None


@pytest.mark.parametrize(
    ("values", "answers"),
    [
        ([1.0, float("nan"), 0.0], [True, None, False]),
        ([True, None, False], [True, None, False]),
        (["Yes", None, "No"], [True, None, False]),
        (pa.array([1, None, 0], pa.int8()), [True, None, False]),
        (pa.array([1.0, float("nan"), -1.0], pa.float32()), [True, None, False]),
        (pa.array(["y", "n", None]).dictionary_encode(), [True, False, None]),
        (pa.array(["T", "F", "F"], pa.large_string()), [True, False, False]),
        (pa.array([1, 0, None], pa.decimal128(5, 2)), [True, False, None]),
    ],
    ids=["nan", "bool", "text", "int8", "float32", "dictionary", "large", "decimal"],
)
def test_parquet_of_any_type_is_read_alike(tmp_path: Path, values: Any, answers: list[bool | None]) -> None:
    pq.write_table(pa.table({"file": ["a", "b", "c"], "hat": values}), tmp_path / "t.parquet")
    assert listing(Annotations(table=tmp_path / "t.parquet"))["a_hat"].to_pylist() == answers


def test_a_missing_label_of_a_float_column_is_none_and_not_the_class_nan(tmp_path: Path) -> None:
    pq.write_table(pa.table({"file": ["a", "b", "c"], "class": [1.0, float("nan"), 0.0]}), tmp_path / "t.parquet")
    assert listing(Annotations(table=tmp_path / "t.parquet", label_column="class"))["label"].null_count == 1


@pytest.mark.parametrize("cells", [("Yes", "No"), ("T", "F"), ("on", "off"), ("1.00", "0.0")], ids="/".join)
def test_an_oracle_learns_the_same_columns(tmp_path: Path, cells: tuple[str, str]) -> None:
    for i, png in enumerate(encode_png(torch.linspace(-1, 1, 12).view(12, 1, 1, 1).expand(12, 3, 8, 8))):
        (tmp_path / f"{i}.png").write_bytes(png)
    rows = [f"{i}.png,{cells[i % 2]},text {i}" for i in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(["file,hat,note", *rows]) + "\n")
    lesson = attributes_of(DataConfig(images=tmp_path, table=tmp_path / "t.csv", size=8))
    assert lesson.names == ("hat",) and lesson.labels.flatten().tolist() == [1, 0] * 6


def test_an_oracle_without_a_column_is_told_why_each_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,age,pose\na,3,left\nb,4,right\n")
    with pytest.raises(ValueError, match=r"no yes/no column.*'age' \(numbers.*'pose' \(text"):
        attributes_of(DataConfig(images=tmp_path, table=tmp_path / "t.csv", size=8))


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        ([True, False, None, True], [1, 0, 2 / 3, 1]),
        ([None, True], [1, 1]),
        ([True, False], [1, 0]),
    ],
    ids=str,
)
def test_an_unknown_cell_does_not_cost_what_the_others_explain(values: list[bool | None], numbers: list[float]) -> None:
    assert mean_where_unknown(values).tolist() == pytest.approx(numbers)
