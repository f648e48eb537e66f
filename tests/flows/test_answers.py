"""Answers as people see them: no line wider than the terminal, nothing cut so far that it could be another's."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from warehouse.lens.answer_table import plain, printed

HASHES = ["a" * 10 + "0" * 54, "a" * 10 + "1" * 54, "b" * 64]
RUNS = ["portraits-clean-28f202000c", "portraits-planted-2f8c55f97c", "portraits-planted-2f8c99f97c"]


def table(**columns: Any) -> pa.Table:
    return pa.table(columns)


def test_a_table_that_fits_is_a_table_with_numbers_aligned() -> None:
    answer = table(name=["hat", None], value=[0.5, 12.25], n=[3, 12_345])
    assert printed(answer, 80) == (
        "name  value      n\n"
        "────  ─────  ─────\n"
        "hat    0.50      3\n"
        "      12.25  12345\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1.0, 2.0], ["1", "2"]),
        ([1 / 3, 20.5], ["0.3333", "20.5000"]),
        ([0.0004998, 0.03], ["0.00050", "0.03000"]),
        ([0.25, 1e-9, 0.0], ["0.2500", "1e-09", "0.0000"]),
        ([float("nan"), None, -0.5], ["nan", "", "-0.5"]),
        ([1e12, 3.5], ["1e+12", "3.5"]),
        ([3e-14, 2e-13], ["3e-14", "2e-13"]),
    ],
)
def test_floats_of_a_column_have_the_same_decimals_and_none_becomes_zero(values: list[Any], texts: list[str]) -> None:
    lines = printed(table(x=values), 80).splitlines()[2:]
    assert [line.strip() for line in lines] == texts


@pytest.mark.parametrize("width", [40, 80, 120])
def test_what_is_too_wide_is_one_block_a_record_no_wider_than_the_terminal(width: int) -> None:
    columns: dict[str, Any] = {f"column_{i}": [f"value {i}", "other"] for i in range(20)}
    columns |= {"config": ['{"a": ' + "1" * 3000 + "}"] * 2, "reason": ["why not " * 100, None], "vector": [[0.5] * 1536] * 2}
    said = printed(table(**columns), width)
    assert max(map(len, said.splitlines())) <= width
    assert said.startswith("── 1 of 2 ──") and "── 2 of 2 ──" in said
    words = " ".join(said.split())
    assert "JSON, 3.0 kB: see run_settings" in words and "… 799 characters" in words and "1,536 in all]" in words


def test_ids_are_cut_only_as_far_as_they_differ_and_only_where_room_is_short() -> None:
    answer = table(image_id=HASHES, run_id=RUNS)
    assert HASHES[0] in printed(answer, 120)
    cut = printed(answer, 80)
    assert "aaaaaaaaaa0…" in cut and "aaaaaaaaaa1…" in cut and "bbbbbbbbbbb…" in cut
    assert "portraits-planted-2f8c…" not in cut  # two runs would be one
    assert "portraits-clean-28f2…" in printed(table(image_id=HASHES[:2], run_id=RUNS[:2]), 40)


def test_images_times_lists_and_truth_values_in_few_words() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    png = buffer.getvalue() + b"\0" * (2100 - len(buffer.getvalue()))
    when = pa.array([datetime(2025, 1, 1, 12, 0, 5, 999, UTC)], pa.timestamp("us", "UTC"))
    answer = table(png=[png], other=[b"abc"], when=when, seeds=[list(range(9))], right=[True], both=[{"a": 1, "b": None}])
    cells = printed(answer, 200).splitlines()[2]
    for text in ("PNG, 2.1 kB", "bytes, 3 B", "2025-01-01 12:00:05", "[0, 1, 2, 3, 4, 5, … 9 in all]", "true", "{a: 1, b: }"):
        assert text in cells


def test_rows_are_bounded_with_a_line_that_says_so() -> None:
    answer = table(n=list(range(250)))
    assert printed(answer, 80).splitlines()[-1] == "… 150 more rows; --rows 0 shows all, --out FILE.csv writes them"
    assert len(printed(answer, 80, rows=5).splitlines()) == 2 + 5 + 2
    assert "more rows" not in printed(answer, 80, rows=0)
    wide = table(text=["x" * 39] * 12, other=["y" * 39] * 12, third=["z" * 39] * 12)
    assert printed(wide, 80).count("──\n") == 10 and "… 2 more rows" in printed(wide, 80)


def test_no_rows_and_no_columns() -> None:
    assert printed(table(a=pa.array([], pa.int64())), 80) == "no rows\ncolumns: a\n"


def test_a_pipe_gets_every_row_and_whole_values_in_plain_columns() -> None:
    answer = table(image_id=HASHES * 100, config=['{"a": ' + "1" * 300 + "}"] * 300, seeds=[list(range(9))] * 300)
    lines = plain(answer).splitlines()
    assert len(lines) == 301 and all("…" not in line for line in lines)
    assert lines[1] == f"{HASHES[0]}  {answer['config'][0]}  [0, 1, 2, 3, 4, 5, 6, 7, 8]"
