"""The metrics' worked examples, through Parquet facts and the views."""

from pathlib import Path
from typing import Any

import pytest
from facts import attribute_rows, explanation_rows, image_ids, image_rows, prediction_rows, run_rows, write_run

from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query

# Oracle bits of four inputs and counterfactuals, three attributes a, b and q of which q is the target: changes of the bits
# are (-1, 0, -1), (-1, 0, 0), (1, 0, 1), (1, 0, 0).
INPUTS = ["101", "110", "000", "011"]
COUNTERFACTUALS = ["000", "010", "101", "111"]
ANNOTATIONS = ["110", "101", "001", "010", "111", "000"]


def probabilities(bits: list[str]) -> dict[str, list[float]]:
    """By attribute "q", "a", "b": .9 where the row's bit is 1, else .1."""
    return {name: [0.9 if row[i] == "1" else 0.1 for row in bits] for i, name in enumerate("qab")}


def annotations(rows: list[str]) -> dict[str, list[bool]]:
    return {f"a_{name}": [row[i] == "1" for row in rows] for i, name in enumerate("qab")}


def write_cd_example(
    root: Path, run_id: str = "r1", before: list[str] = INPUTS, after: list[str] = COUNTERFACTUALS, **run
) -> None:
    ids = image_ids(4)
    write_shard(root, "runs", run_id, "finished", run_rows(**({"target_attribute": "q"} | run)))
    write_shard(root, "images", run_id, "0", image_rows(image_ids(6, seed=1), **annotations(ANNOTATIONS)))
    write_shard(root, "explanations", run_id, "0", explanation_rows(ids))
    write_shard(root, "attributes", run_id, "0", attribute_rows(ids, probabilities(before), probabilities(after)))


def test_fr_worked_example(tmp_path):
    # targets 1, 0, 1, 0 and logits .2, -1, -.3, 0, where a logit of 0 is class 0: three of four flip, right or wrong before
    flipped = [(logit > 0) == target for target, logit in zip([1, 0, 1, 0], [0.2, -1, -0.3, 0], strict=True)]
    ids = image_ids(4)
    write_shard(tmp_path, "images", "r1", "0", image_rows(ids, label=["smile", "smile", None, "no_smile"]))
    write_shard(tmp_path, "predictions", "r1", "0", prediction_rows(ids, ["smile", "no_smile", "smile", "no_smile"]))
    judged: dict[str, Any] = {"flipped": flipped, "judge_flipped": [True, None, False, None]}
    write_shard(tmp_path, "explanations", "r1", "guided", explanation_rows(ids, **judged))
    write_shard(tmp_path, "explanations", "r1", "null", explanation_rows(ids, "null", flipped=[False] * 4))

    assert query(tmp_path, "from fr").to_pylist() == [{"run_id": "r1", "method": "dime", "value": 0.75, "n": 4}]
    assert query(tmp_path, "from judge_fr").to_pylist() == [{"run_id": "r1", "method": "dime", "value": 0.5, "n": 2}]
    outcomes = query(tmp_path, "select image_id, correct from outcomes").to_pylist()
    assert {row["image_id"]: row["correct"] for row in outcomes} == dict(zip(ids, [True, False, None, True], strict=True))


def test_mnac_worked_example(tmp_path):
    ids = image_ids(3)
    before = {"a": [0.6, 0.9, 0.1], "b": [0.4, 0.1, 0.1], "c": [0.2, 0.5, 0.1]}
    after = {"a": [0.4, 0.9, 0.9], "b": [0.4, 0.6, 0.9], "c": [0.7, 0.51, 0.9]}  # .5 itself is not above threshold
    write_shard(tmp_path, "explanations", "r1", "0", explanation_rows(ids, flipped=[True, True, False]))
    write_shard(tmp_path, "attributes", "r1", "0", attribute_rows(ids, before, after))
    assert query(tmp_path, "from mnac").to_pylist() == [{"run_id": "r1", "method": "dime", "value": 2.0, "n": 2}]


def test_mnac_counts_the_attributes_of_its_own_run(tmp_path):
    for run_id, names in (("r1", "ab"), ("r2", "bcd")):
        ids = image_ids(2)
        before, after = ({name: [p, p] for name in names} for p in (0.1, 0.9))
        write_shard(tmp_path, "explanations", run_id, "0", explanation_rows(ids))
        write_shard(tmp_path, "attributes", run_id, "0", attribute_rows(ids, before, after))
    assert query(tmp_path, "select run_id, value from mnac order by run_id")["value"].to_pylist() == [2.0, 3.0]


def test_cd_worked_example_where_one_attribute_never_changes(tmp_path):
    # c = (1, 1/3, 1/3) and c_cf = (1, 0, .7071): |1/3 - 0| + |1/3 - .7071|
    write_cd_example(tmp_path)
    (row,) = query(tmp_path, "from cd").to_pylist()
    assert row["value"] == pytest.approx(0.70710678, abs=1e-8)
    assert (row["n"], row["unchanged"]) == (4, 1)


def test_cd_worked_example_where_every_attribute_changes(tmp_path):
    # the changes of a are (0, 1, 0, 0), which correlate -.57735027 with those of q
    write_cd_example(tmp_path, before=["101", "100", "000", "011"], after=["000", "010", "101", "111"])
    (row,) = query(tmp_path, "from cd").to_pylist()
    assert row["value"] == pytest.approx(1.28445706, abs=1e-8)
    assert row["unchanged"] == 0


def test_cd_is_a_number_when_nothing_changes_at_all(tmp_path):
    write_cd_example(tmp_path, after=INPUTS)
    (row,) = query(tmp_path, "from cd").to_pylist()
    assert row["value"] == pytest.approx(1 + 1 / 3 + 1 / 3)
    assert row["unchanged"] == 3


def test_cd_reads_the_train_split_where_there_is_one(tmp_path):
    rows = image_rows(image_ids(8, seed=1), **annotations([*ANNOTATIONS, "011", "011"]), split=["train"] * 6 + ["test"] * 2)
    write_shard(tmp_path, "images", "r1", "0", rows)  # written first, so the example's own images are not
    write_cd_example(tmp_path)
    assert query(tmp_path, "select value from cd")["value"].to_pylist() == [pytest.approx(0.70710678, abs=1e-8)]


def test_cd_is_absent_without_annotations_or_target_attribute(tmp_path):
    write_shard(tmp_path, "images", "r1", "0", image_rows(image_ids(6)))
    write_cd_example(tmp_path)
    write_cd_example(tmp_path, run_id="r2", target_attribute=None)
    write_cd_example(tmp_path, run_id="r3", target_attribute="unheard_of")
    assert query(tmp_path, "from cd").num_rows == 0
    write_cd_example(tmp_path, run_id="r4")
    assert query(tmp_path, "select run_id from cd")["run_id"].to_pylist() == ["r4"]


def test_cd_asks_each_run_for_its_own_target_attribute(tmp_path):
    write_cd_example(tmp_path)
    write_cd_example(tmp_path, run_id="r2", target_attribute="b")
    rows = query(tmp_path, "select value from cd order by run_id")["value"].to_pylist()
    # with b as query: annotations correlate (1/3, -1/3, 1), changes (.7071, 0, 1)
    assert rows == pytest.approx([0.70710678, 0.70710678], abs=1e-8)


def test_the_scorecard_holds_every_metric_once(tmp_path):
    write_run(tmp_path, "r1", {"smile": 0.3, "glasses": 0.1}, n=20)
    rows = query(tmp_path, "from scorecard").to_pylist()
    values = {row["metric"]: row["value"] for row in rows}
    assert len(values) == len(rows)
    assert {"fr", "fr_null", "judge_fr", "mnac", "cd"} < set(values)
    assert values["l1"] == 0.1
    assert values["nfe_forward"] == 60
    assert {row["n"] for row in rows if row["metric"] in ("fr", "fr_null", "seconds")} == {20}
    assert all(row["method"] == "dime" and row["value"] is not None for row in rows)


@pytest.mark.parametrize("view", ["outcomes", "mnac", "cd", "scorecard", "attribute_effects", "ranked_attributes"])
def test_a_question_about_one_run_reads_the_files_of_that_run_only(tmp_path, view):
    for run_id in ("r1", "r2"):
        write_run(tmp_path, run_id, {"smile": 0.3, "glasses": 0.1}, n=8)
    alone = query(tmp_path, f"from {view} where run_id = 'r1'")
    for path in tmp_path.glob("facts/*/run_id=r2/*.parquet"):
        whole = path.read_bytes()
        footer = int.from_bytes(whole[-8:-4], "little") + 8  # schema and places, its length, the magic
        path.write_bytes(whole[:4] + b"\0" * (len(whole) - 4 - footer) + whole[-footer:])
    assert {row["run_id"] for row in query(tmp_path, f"from {view}").to_pylist()} == {"r1"}  # where all are read, it is seen
    assert query(tmp_path, f"from {view} where run_id = 'r1'").num_rows == alone.num_rows > 0
