"""What comes out: no value under another's heading, JSON that is JSON, intervals that can be true, tables that can be read."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from rich.table import Table
from typer.testing import CliRunner

import cfx
from cfx.classifiers import BlackBox, load_black_box
from cfx.classifiers.black_box import BlackBoxConfig, as_probabilities
from cfx.classifiers.onnx import OnnxConfig
from cfx.errors import UserError
from cfx.evidence.paired import paired_effects
from flows.cli import app
from flows.commands.audit import findings_table
from tasks.data.formats import table_of
from warehouse.evidence.export import export
from warehouse.facts.query_ledger import QueryLedger
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query
from warehouse.lens.plain_json import as_json
from warehouse.report.render import write_report

sys.path.insert(0, str(Path(__file__).parent.parent / "warehouse"))
from facts import attribute_rows, explanation_rows, image_rows, prediction_rows, run_rows


def asked(root: Path, *arguments: str) -> tuple[int, bytes, str]:
    ended = CliRunner().invoke(app, ["query", *arguments, "-w", str(root)])
    return ended.exit_code, ended.stdout_bytes, ended.stderr


# --- columns of one name ---

NAMES = {
    "select 1 as a, 2 as a": {"a": 1, "a_1": 2},
    "select 1 as a, 2 as a, 3 as a": {"a": 1, "a_1": 2, "a_2": 3},
    "select 1 as a, 2 as a, 3 as a_1": {"a": 1, "a_2": 2, "a_1": 3},
    "select 3 as a_1, 1 as a, 2 as a": {"a_1": 3, "a": 1, "a_2": 2},
    "from (select 1 as a, 2 as b) x join (select 1 as c, 5 as b) y on a = c": {"a": 1, "b": 2, "c": 1, "b_1": 5},
    "select x.*, y.* from (select 1 as a, 'p' as b) x, (select 2 as a, 'q' as b) y": {"a": 1, "b": "p", "a_1": 2, "b_1": "q"},
    "select 1 as a, [2, 3] as a, 4 as b": {"a": 1, "a_1": [2, 3], "b": 4},
    "select sum(x), sum(x) from range(3) t(x)": {"sum(x)": 3, "sum(x)_1": 3},
    "select 1 as a, 2 as A": {"a": 1, "A": 2},
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


@pytest.mark.parametrize(("sql", "row"), NAMES.items(), ids=list(NAMES))
def test_columns_of_one_name_are_told_apart_in_every_format(empty: Path, tmp_path: Path, sql: str, row: dict[str, Any]) -> None:
    assert query(empty, sql).to_pylist() == [row]
    assert json.loads(asked(empty, sql, "-f", "json")[1]) == [row]
    flat = {name: str(value) for name, value in row.items()}
    frame = pd.read_csv(io.BytesIO(asked(empty, sql, "-f", "csv")[1]), dtype=str)
    assert frame.to_dict("records") == [flat]
    assert asked(empty, sql, "-o", str(tmp_path / "a.parquet"))[0] == 0
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [row]
    printed = asked(empty, sql)[1].decode().splitlines()
    assert dict(zip(*(re.split(r" {2,}", line.strip()) for line in printed), strict=True)) == flat
    frame = cfx.open(empty).sql(sql)
    assert list(frame.columns) == list(row)


# --- JSON ---


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("nan"), "null"),
        (float("-inf"), "null"),
        ({"a": [1.5, float("inf"), {"b": float("nan")}]}, '{"a": [1.5, null, {"b": null}]}'),
        ((1, None, True, "é"), '[1, null, true, "\\u00e9"]'),
        (Decimal("12"), "12"),
        (Decimal("0.5"), "0.5"),
        (Decimal("NaN"), "null"),
        (b"\x00\x01", '"AAE="'),
        ({1: 2}, '{"1": 2}'),
        (pd.Timestamp("2025-01-01").to_pydatetime(), '"2025-01-01 00:00:00"'),
        (Path("a/b"), '"a/b"'),
        (float(np.float32(0.5)), "0.5"),
    ],
    ids=repr,
)
def test_json_has_no_word_for_infinity(value: object, text: str) -> None:
    assert as_json(value) == text


UNREAL = {
    "select 'nan'::double as x, 1 as y": [{"x": None, "y": 1}],
    "select 'inf'::float as x": [{"x": None}],
    "select '-inf'::double as x": [{"x": None}],
    "select ['nan'::double, 1] as x": [{"x": [None, 1.0]}],
    "select {'a': 'nan'::double} as x": [{"x": {"a": None}}],
    "select map {'a': 'inf'::double} as x": [{"x": [["a", None]]}],
    "select 0.25 as x": [{"x": 0.25}],
    "select null as x": [{"x": None}],
    "select 1 as x where false": [],
    "select 'NaN' as x": [{"x": "NaN"}],
}


@pytest.mark.parametrize(("sql", "rows"), UNREAL.items(), ids=list(UNREAL))
def test_an_answer_is_valid_json(empty: Path, sql: str, rows: list[dict[str, Any]]) -> None:
    code, text, _ = asked(empty, sql, "-f", "json")

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    assert code == 0 and json.loads(text, parse_constant=refuse) == rows
    nested = asked(empty, sql, "-f", "csv")[1].decode()
    assert "Infinity" not in nested and ": NaN" not in nested


# --- files to write ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "{here}"), ["--out", "is a folder"]),
        (("-o", "{here}/none/a.csv"), ["--out", "there is no folder", "none"]),
        (("-o", "{here}/a.csv", "-f", "json"), ["--out", "a.csv", "csv", "json"]),
        (("-o", "{here}/a.parquet", "-f", "csv"), ["--out", "a.parquet"]),
        (("-f", "xml"), ["--format", "'xml'"]),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_in_words(
    empty: Path, tmp_path: Path, arguments: tuple[str, ...], words: list[str]
) -> None:
    code, _, said = asked(empty, "select 1 as a", *(each.format(here=tmp_path) for each in arguments))
    assert code == 2 and len(said.splitlines()) == 1
    assert [word for word in words if word not in said] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "begins"),
    [("a.csv", b'"a"\n1'), ("a.json", b'[{"a": 1}]'), ("a.PARQUET", b"PAR1"), ("a.txt", b"a\n1\n"), ("a", b"a\n1\n")],
)
def test_a_files_ending_says_its_form(empty: Path, tmp_path: Path, name: str, begins: bytes) -> None:
    assert asked(empty, "select 1 as a", "-o", str(tmp_path / name))[0] == 0
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_other_commands_refuse_such_a_file_too(empty: Path, tmp_path: Path) -> None:
    commands = (["export", "run", "-o", str(tmp_path), "-w", str(empty)], ["explain", "a.png", "-o", str(tmp_path / "x/y.png")])
    for command in commands:
        ended = CliRunner().invoke(app, command)
        assert ended.exit_code == 2 and "--out" in ended.stderr


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t", "t.xlsx", "folder.parquet"])
def test_a_table_that_would_not_be_what_its_name_says_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(UserError, match=r"\.parquet"):
        table_of("imagefolder", tmp_path, tmp_path / name)
    assert not (tmp_path / name).is_file()


# --- answers of ONNX files and other black boxes ---


def onnx_model(path: Path, kind: int, weights: list[list[float]], softmax: bool = False) -> Path:
    """Scores from the mean of each channel, in this type of number."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    constants = [
        numpy_helper.from_array(np.array([2, 3]), "axes"),
        numpy_helper.from_array(np.array(weights, dtype).T, "w"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"]) if softmax else helper.make_node("Identity", ["scores"], ["p"]),
    ]
    images = helper.make_tensor_value_info("images", kind, ["n", 3, 4, 4])
    answers = helper.make_tensor_value_info("p", kind, ["n", len(weights)])
    graph = helper.make_graph(nodes, "means", [images], [answers], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def black_box(path: Path, **more: object) -> BlackBox:
    config = OnnxConfig.model_validate({"access": "onnx", "weights": path, "classes": ["low", "high"], **more})
    return load_black_box(config, QueryLedger(None, "model", None))


X = torch.linspace(-1, 1, 5 * 3 * 16).view(5, 3, 4, 4)
TWO, ONE = [[-1.0, -1.0, -1.0], [3.0, 1.0, 2.0]], [[4.0, 2.0, 3.0]]


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE], ids=["float", "half", "double"])
@pytest.mark.parametrize(("weights", "softmax"), [(TWO, False), (ONE, False), (TWO, True)], ids=["two", "one", "softmax"])
def test_an_onnx_file_of_any_float_answers_alike(tmp_path: Path, kind: int, weights: list[list[float]], softmax: bool) -> None:
    path = onnx_model(tmp_path / "model.onnx", kind, weights, softmax)
    answered = black_box(path, answers="probabilities" if softmax else "logits")(X).softmax(1)[:, 1]
    log_odds = ((X + 1) / 2).mean((2, 3)) @ torch.tensor([4.0, 2.0, 3.0])
    torch.testing.assert_close(answered, log_odds.sigmoid(), atol=5e-3 if kind == TensorProto.FLOAT16 else 1e-6, rtol=0)


def test_probabilities_declared_as_logits_are_refused(tmp_path: Path) -> None:
    model = black_box(onnx_model(tmp_path / "model.onnx", TensorProto.FLOAT, TWO, softmax=True), answers="logits")
    with pytest.raises(UserError, match="which are probabilities; set `answers: probabilities`"):
        model(X)


@pytest.mark.parametrize(
    ("classes", "answer", "found"),
    [
        (2, [[0.0], [2.0]], [0.5, 1 / (1 + np.exp(-2.0))]),
        (2, [0.0, -2.0], [0.5, 1 / (1 + np.exp(2.0))]),
        (2, [[0.2, 0.7], [0.3, 0.7]], None),  # the first row does not add up to one
        (2, [[0.2, 0.8], [0.3, 0.7]], "are probabilities"),
        (3, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], "are probabilities"),
        (3, [[1.0], [2.0]], "have shape"),
        (2, [[0.5], [np.nan]], "NaN"),
        (2, [[-1.0, 2.0], [0.3, 0.7]], None),
        (2, [[0.3, 0.7]], None),  # one row may be chance
    ],
)
def test_logits_are_read_or_refused(classes: int, answer: list[Any], found: list[float] | str | None) -> None:
    config = BlackBoxConfig(classes=("a", "b", "c")[:classes], answers="logits")
    if isinstance(found, str):
        with pytest.raises(UserError, match=found):
            as_probabilities(answer, len(answer), config, "box")
        return
    read = as_probabilities(answer, len(answer), config, "box")
    np.testing.assert_allclose(read.sum(1), 1)
    if found is not None:
        np.testing.assert_allclose(read[:, 1], found)


# --- many classes ---


def written(root: Path, ways: list[tuple[str, str]], moves: dict[str, Any], classes: list[str], **run: Any) -> None:
    """A run whose explanations go these ways, one an image, and move attributes by so much beyond the null."""
    n = len(ways)
    ids = [hashlib.sha256(f"{i}".encode()).hexdigest() for i in range(n)]
    directions = {"source": [source for source, _ in ways], "target": [target for _, target in ways]}
    still = {name: np.full(n, 0.5) for name in moves}
    after = {name: 0.5 + np.asarray(move, float) * np.ones(n) for name, move in moves.items()}
    flipped = run.pop("flipped", True)
    write_shard(root, "images", "r", "0", image_rows(ids, label=directions["source"]))
    write_shard(root, "predictions", "r", "0", prediction_rows(ids, directions["source"]))
    for arm, moved in (("guided", after), ("null", still)):
        rows = explanation_rows(ids, arm, **directions)
        rows["flipped"] = rows["flipped_8bit"] = [flipped and arm == "guided"] * n
        write_shard(root, "explanations", "r", arm, rows)
        if moves:
            write_shard(root, "attributes", "r", arm, attribute_rows(ids, still, moved, arm))
    write_shard(root, "runs", "r", "finished", run_rows(**({"target_attribute": None, "classes": classes, "explained": n} | run)))


CLASSES = ["cat", "dog", "fox"]
FEW = [("cat", "fox")] * 2 + [("dog", "fox")] * 12 + [("cat", "dog")] * 7


def test_the_headline_is_pooled_over_the_sources_of_a_class_and_never_two_images(tmp_path: Path) -> None:
    """Two images from cat to fox move the ears by .5; the twelve from dog to fox by .1: the headline is the mean of fourteen."""
    noise = np.tile([-0.02, 0.02], 11)[: len(FEW)]
    written(tmp_path, FEW, {"ears": np.array([0.5] * 2 + [0.1] * 12 + [0.45] * 7) + noise}, CLASSES)
    (row,) = query(tmp_path, "from ranked_attributes").to_pylist()
    assert (row["source"], row["target"], row["n"]) == (None, "fox", 14)
    assert row["effect"] == pytest.approx((2 * 0.5 + 12 * 0.1) / 14, abs=0.01)
    by_direction = query(tmp_path, "select source, target, n from attribute_effects").to_pylist()
    assert by_direction == [{"source": "dog", "target": "fox", "n": 12}]
    page = write_report(tmp_path, "r").read_text()
    assert "any class → fox" in page and "2 of 3 directions, which have fewer than 8 images each" in page


@pytest.mark.parametrize(("n", "there"), [(7, 0), (8, 1)])
def test_a_class_asked_for_in_fewer_than_eight_images_has_no_effect(tmp_path: Path, n: int, there: int) -> None:
    written(tmp_path, [("cat", "fox")] * n, {"ears": 0.2}, CLASSES)
    views = ("ranked_attributes", "attribute_effects", "verdicts")
    assert [len(query(tmp_path, f"from {view}")) for view in views] == [there] * 3


def test_two_classes_are_as_they_were(tmp_path: Path) -> None:
    written(tmp_path, [("no_smile", "smile")] * 2 + [("smile", "no_smile")], {"ears": [0.2, 0.4, -0.3]}, ["no_smile", "smile"])
    (row,) = query(tmp_path, "select source, target, effect, n from ranked_attributes").to_pylist()
    assert row == {"source": "no_smile", "target": "smile", "effect": pytest.approx(0.3, abs=1e-6), "n": 3}
    assert len(query(tmp_path, "from attribute_effects")) == 2


@pytest.mark.parametrize("n", [2, 3, 5, 9])
def test_no_interval_of_a_change_of_a_probability_leaves_its_range(tmp_path: Path, n: int) -> None:
    moves = np.where(np.arange(n) % 2, 0.49, -0.45)
    written(tmp_path, [("no_smile", "smile")] * n, {"ears": moves, "tail": 0.49}, ["no_smile", "smile"])
    for view in ("ranked_attributes", "attribute_effects", "attribute_tests", "verdicts"):
        for row in query(tmp_path, f"select low, effect, high from {view}").to_pylist():
            assert -1 <= row["low"] <= row["effect"] <= row["high"] <= 1


def test_nor_do_those_of_probes(tmp_path: Path) -> None:
    for effect in paired_effects(np.array([[0.9, 0.5], [-0.8, 0.5]])):
        assert -1 <= effect.low <= effect.mean <= effect.high <= 1


WORDS = {
    "few images a class": ({"ways": [("cat", "fox")] * 3 + [("dog", "cat")] * 3}, "6 images have both", "8 of them or more"),
    "no oracle": ({"moves": {}}, "14 images have both", "no oracle names an attribute"),
    "the label alone": ({"target_attribute": "ears"}, "14 images have both", "no oracle names an attribute"),
}


@pytest.mark.parametrize(("change", "count", "why"), WORDS.values(), ids=list(WORDS))
def test_why_there_is_nothing_to_compare(tmp_path: Path, change: dict[str, Any], count: str, why: str) -> None:
    settings: dict[str, Any] = {"ways": [("cat", "fox")] * 14, "moves": {"ears": 0.2}} | change
    written(tmp_path, settings.pop("ways"), settings.pop("moves"), CLASSES, **settings)
    page = write_report(tmp_path, "r").read_text()
    assert count in page and why in page and "no image yet" not in page and "there is no image that has both" not in page


def test_an_audit_that_stopped_before_its_oracle_does_not_ask_for_one(tmp_path: Path) -> None:
    written(tmp_path, [("cat", "fox")] * 14, {}, CLASSES, status="started", finished=None)
    page = write_report(tmp_path, "r").read_text()
    assert "the audit has not finished. Run it again" in page and "set `oracle`" not in page


def test_without_a_null_it_is_said_as_before(tmp_path: Path) -> None:
    write_shard(tmp_path, "runs", "r", "finished", run_rows())
    assert "no image yet that has both a guided explanation and its null" in write_report(tmp_path, "r").read_text()


def test_an_attribute_that_moved_where_nothing_flipped_has_its_page(tmp_path: Path) -> None:
    moves = 0.3 + 0.02 * np.cos(np.arange(64))
    written(tmp_path, [("no_smile", "smile")] * 64, {"ears": moves}, ["no_smile", "smile"], flipped=False)
    (row,) = query(tmp_path, "select attribute, verdict from verdicts").to_pylist()
    assert row == {"attribute": "ears", "verdict": "inconclusive"}
    assert "Nothing could be tested" in write_report(tmp_path, "r").read_text()
    assert export(tmp_path, "r", tmp_path / "pack.zip").is_file()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 classes, 200 attributes, 32 images: 20 of them towards one class, the others each towards another."""
    root = tmp_path_factory.mktemp("many")
    classes = [f"class {i}" for i in range(1000)]
    ways = [(f"class {i}", "class 999") for i in range(20)] + [(f"class {i}", f"class {i + 500}") for i in range(12)]
    rng = np.random.default_rng(0)
    written(root, ways, {f"attribute {i}": rng.uniform(-0.1, 0.1, len(ways)) for i in range(200)}, classes)
    return root


def test_a_thousand_classes_and_two_hundred_attributes_are_answered(many: Path) -> None:
    rows = query(many, "select attribute, target, n from verdicts").to_pylist()
    assert len(rows) == 200 and {(row["target"], row["n"]) for row in rows} == {("class 999", 20)}


@pytest.mark.parametrize(
    ("flip_rate", "judge_flip_rate", "title"),
    [
        (None, None, "trial: no counterfactuals"),  # no prior, or every image is the target
        (0.0, None, "trial: flip rate 0.000, no judge"),
        (0.5, 0.25, "trial: flip rate 0.500, judge flip rate 0.250"),
    ],
)
def test_the_table_at_the_end_says_which_rates_there_are(
    flip_rate: float | None, judge_flip_rate: float | None, title: str
) -> None:
    nothing: dict[str, Any] = {key: [] for key in ("explained", "findings", "attributes", "regions")} | {
        "run_id": "r1",
        "canary": None,
    }
    rates = {"flip_rate": flip_rate, "judge_flip_rate": judge_flip_rate}
    assert str(findings_table("trial", nothing | rates)) == f"{title}\nrun r1", "no empty table"
    numbers = {"effect": 0.1, "low": 0.0, "high": 0.2, "q": 0.01, "verdict": "clear", "intervention_low": None}
    table = findings_table("trial", nothing | rates | {"attributes": [{"attribute": "hat"} | numbers]})
    assert isinstance(table, Table) and table.title == title
