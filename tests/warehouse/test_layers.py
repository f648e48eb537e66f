"""The view `layers`: which parts an audit has, what each of the others would add, and the line that adds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from facts import CLASSES, image_ids, image_rows, place_rows, prediction_rows, property_rows, run_rows, share_rows

from tasks.config import AuditConfig
from tasks.data.ingest import DataConfig
from tasks.reading.gate import Policy
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query
from warehouse.lens.gate import gate, set_policy
from warehouse.report.layers import layers_of, left_out, lines_of
from warehouse.report.limitations import limits
from warehouse.report.render import report_html
from warehouse.report.verdict import read_verdict

ALONE: dict[str, Any] = {
    "data": {"images": "images", "table": None, "label_column": None},
    "oracle": None,
    "prior": None,
    "judge": None,
    "masks": None,
}
TABLE = ALONE | {"data": {"images": "images", "table": "t.csv", "label_column": None}}
LABELS = ALONE | {"data": {"images": "images", "table": "t.csv", "label_column": "label"}}
FULL = LABELS | {"oracle": {"weights": "o"}, "prior": {"train": {}}, "judge": {"weights": "j"}, "masks": "masks"}


@pytest.mark.parametrize(
    ("config", "lines"),
    [
        (
            ALONE,
            {
                "labels": "data: {…, table: TABLE.csv, label_column: COLUMN}",
                "attributes": "oracle: {words: faces, model: FOLDER}",
                "counterfactuals": "prior: auto",
                "judge": "judge: {weights: FILE}",
                "masks": "masks: FOLDER",
            },
        ),
        (
            TABLE,
            {
                "labels": "data: {…, label_column: COLUMN}",
                "attributes": "oracle: auto",
                "counterfactuals": "prior: auto",
                "judge": "judge: {weights: FILE}",
                "masks": "masks: FOLDER",
            },
        ),
        (
            LABELS,
            {
                "attributes": "oracle: auto",
                "counterfactuals": "prior: auto",
                "judge": "judge: auto",
                "masks": "masks: FOLDER",
            },
        ),
        (FULL | {"judge": None}, {"judge": "judge: auto"}),
        (FULL, {}),
        ({"ladder": []}, {}),  # a run that does not say what it had lacks nothing for certain
    ],
)
def test_what_is_missing_and_the_line_that_adds_it(config: dict[str, Any], lines: dict[str, str]) -> None:
    rows = layers_of(json.dumps(config))
    assert [row["place"] for row in rows] == list(range(6)) and rows[0]["there"]
    assert {row["layer"]: row["line"] for row in rows if row["there"] is False} == lines
    assert [row["layer"] for row in left_out(rows)] == list(lines)
    assert [line.partition("`")[2].partition("`")[0] for line in lines_of(rows)] == list(lines.values())
    assert "\n" not in "".join(lines_of(rows))


def test_every_line_is_a_setting_that_there_is() -> None:
    for config in (ALONE, TABLE, LABELS):
        for row in left_out(layers_of(json.dumps(config))):
            ((section, value),) = yaml.safe_load(row["line"].replace("…, ", "")).items()
            assert section in AuditConfig.model_fields
            assert section != "data" or set(value) <= set(DataConfig.model_fields)


def write_bare(root: Path, run_id: str, config: dict[str, Any], share: bool = False) -> None:
    """A finished run of 64 images that was never drawn for: a place decides, and a property does not."""
    ids = image_ids(64)
    predicted = [CLASSES[i % 2] for i in range(64)]
    write_shard(root, "images", run_id, "0", image_rows(ids))
    write_shard(root, "predictions", run_id, "0", prediction_rows(ids, predicted))
    write_shard(root, "property_claims", run_id, "all", property_rows({"warmth": 0.01}, kind="fragile"))
    named = {60: ["glasses"]} if share else {}
    write_shard(root, "place_claims", run_id, "all", place_rows({60: 0.49} if not share else {}, named))
    if share:
        write_shard(root, "explained", run_id, "all", share_rows(0.95) | {"r2": [0.5, 0.95, 0.96]})
    done = {"attempted": 64, "explained": 0, "flipped": 0, "rejected": 0}
    write_shard(root, "runs", run_id, "finished", run_rows(config=json.dumps(config), target_attribute=None, **done))
    set_policy(root, run_id, Policy().model_dump() | {"base": None, "forbidden": None})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    write_bare(root, "alone", ALONE)
    write_bare(root, "seen", FULL | {"prior": None, "judge": None}, share=True)
    return root


def test_the_view_has_the_rows_of_the_configuration(root: Path) -> None:
    rows = query(root, "from layers where run_id = 'alone' order by place").to_pylist()
    assert [{name: row[name] for name in row if name != "run_id"} for row in rows] == layers_of(json.dumps(ALONE))


def test_with_nothing_named_nothing_is_cleared_and_the_reader_knows_why(root: Path) -> None:
    said = read_verdict(root, "alone")
    assert said.kind == "inconclusive" and said.headline.startswith("Not cleared: ")
    assert said.sentences[0].startswith("Nothing was cleared, because nothing was named: without labels and named attributes")
    found = gate(root, "alone")
    assert found.verdict == "inconclusive" and found.reasons[0].startswith("how much of the answers is accounted for was not")
    page = report_html(root, "alone")
    for row in left_out(layers_of(json.dumps(ALONE))):
        assert f"<strong>{row['title']}:</strong> {row['adds']}" in page and f"<code>{row['line']}</code>" in page
    assert "None: no attribute was tested." in page
    why = {row["run_id"]: row["why"] for row in query(root, "from unnamed_findings where kind = 'property'").to_pylist()}
    assert why["seen"] == f"{why['alone']}, beyond the label"  # of images without labels, nothing is said of the label


def test_attributes_that_explain_the_answers_and_were_never_tested_clear_nothing(root: Path) -> None:
    # The label explains half, with the attributes it is nearly all: one of these may well be a shortcut.
    said = read_verdict(root, "seen")
    assert said.kind == "inconclusive" and said.headline.startswith("Not cleared: which of the named attributes")
    found = gate(root, "seen")
    assert found.verdict == "inconclusive" and "none of the attributes among it was tested" in found.reasons[0]
    (run,) = query(root, "from runs where run_id = 'seen'").to_pylist()
    assert limits(run, [], {}, None)[0].title == "No attribute was tested."


def test_a_policy_may_do_without_a_share(root: Path) -> None:
    set_policy(root, "alone", Policy(explained=False).model_dump() | {"base": None, "forbidden": None})
    assert gate(root, "alone").verdict == "pass"
    set_policy(root, "alone", Policy().model_dump() | {"base": None, "forbidden": None})
