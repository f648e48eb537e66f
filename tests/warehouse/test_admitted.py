"""An editor's explanations count in statistics of attributes only where it is shown to change every one as the ladder does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from facts import attribute_rows, explanation_rows, image_ids, image_rows, rewrite, run_rows

from tasks.advice.editor_check import editor_warnings
from tests.runs import run_of
from warehouse.facts.shards import Shard, write_shard
from warehouse.lens.connect import open_warehouse, query
from warehouse.lens.partial_sums import write_sums
from warehouse.report.limitations import limits

# Two images each way. The ladder adds .4 and .2 to "hat", the editor .9, the ladder after it .1; nulls add nothing.
WAYS = {"ladder": (0.4, 0.2), "editor": (0.9, 0.9), "ladder after editor": (0.1, 0.1)}


def comparison(equivalent: bool, attribute: str) -> dict[str, Any]:
    return {
        "source": "no_smile", "target": "smile", "measure": "shift", "attribute": attribute, "by_ladder": 0.3, "by_editor": 0.4,
        "low": 0.0, "high": 0.05 if equivalent else 0.2, "equivalent": equivalent, "n": 9,
    }  # fmt: skip


def write_ways(root: Path, run_id: str, compared: list[dict[str, Any]], sums: bool, named: bool = True) -> None:
    write_shard(root, "runs", run_id, "started", run_rows(target_attribute=None, margin=0.1))
    ids, ways = image_ids(6), [way for way in WAYS for _ in range(2)]
    changes = np.array([change for pair in WAYS.values() for change in pair])
    if compared:
        write_shard(root, "editors", run_id, "all", {name: [row[name] for row in compared] for name in compared[0]})
    arms = [(explanation_rows(ids, arm), np.zeros(6) if arm == "null" else changes, arm) for arm in ("guided", "null")]
    explained = {name: [value for rows, _, _ in arms for value in rows[name]] for name in arms[0][0]}
    explained |= {"way": ways * 2} if named else {}
    before = {"hat": np.full(6, 0.0), "beard": np.full(6, 0.5)}
    seen = [attribute_rows(ids, before, before | {"hat": change}, arm) for _, change, arm in arms]
    attributes = {name: [value for rows in seen for value in rows[name]] for name in seen[0]}
    shards: list[Shard] = [
        write_shard(root, fact, run_id, "00000", rows)
        for fact, rows in (("images", image_rows(ids)), ("explanations", explained), ("attributes", attributes))
    ]
    if sums:
        write_sums(root, shards[0], shards[1], shards[2], None)


@pytest.mark.parametrize(
    ("compared", "n", "effect"),
    [
        ([comparison(True, "hat"), comparison(True, "beard")], 6, 2.6 / 6),  # all alike: all count
        ([comparison(True, "hat"), comparison(False, "beard")], 2, 0.3),  # one is not: what the ladder drew at once
        ([], 6, 2.6 / 6),  # no editor
    ],
)
def test_statistics_take_all_ways_together_or_what_the_ladder_drew_at_once(
    tmp_path: Path, compared: list[dict[str, Any]], n: int, effect: float
) -> None:
    write_ways(tmp_path, "r1", compared, sums=True)
    sql = "select sum(d_hat) / sum(pairs) as effect, sum(images)::int as n, sum(flips)::int as flips from attribute_sums"
    for from_rows in (False, True):  # as the audit wrote them down, and made anew
        with open_warehouse(tmp_path, from_rows=from_rows, sql=sql) as lens:
            assert lens.execute(sql).fetchall() == [(pytest.approx(effect), n, n)]

    def asked(sql: str) -> list[dict[str, Any]]:
        return query(tmp_path, sql).to_pylist()

    assert len(asked("from image_effects where attribute = 'hat'")) == len(asked("from changed")) == n
    ways = asked("select way, n, flip_rate, admitted from ways order by way")
    assert [(row["way"], row["n"], row["flip_rate"]) for row in ways] == [(way, 2, 1.0) for way in sorted(WAYS)]
    assert [row["admitted"] for row in ways] == ([2, 2, 2] if n == 6 else [0, 2, 0])
    assert asked("select value, n from fr") == [{"value": 1.0, "n": 6}]  # of all, whoever drew them
    assert asked("select distinct way from outcomes order by way") == [{"way": way} for way in sorted(WAYS)]


def test_shards_from_before_there_were_editors_are_the_ladders(tmp_path: Path) -> None:
    write_ways(tmp_path, "new", [comparison(False, "hat")], sums=False)
    write_ways(tmp_path, "old", [], sums=False, named=False)
    path = next(tmp_path.glob("facts/explanations/run_id=old/*.parquet"))
    rewrite(path, pq.read_table(path, partitioning=None).drop_columns(["way"]))
    found = query(tmp_path, "select run_id, sum(images)::int as n from buckets group by run_id order by run_id").to_pylist()
    assert found == [{"run_id": "new", "n": 2}, {"run_id": "old", "n": 6}]
    (way,) = query(tmp_path, "select way, n, admitted from ways where run_id = 'old'").to_pylist()
    assert way == {"way": "ladder", "n": 6, "admitted": 6}


def test_the_report_and_the_warnings_say_how_many_count(tmp_path: Path) -> None:
    run = run_of(tmp_path, "r1", editor={})
    write_ways(tmp_path, "r1", [comparison(False, "hat"), comparison(False, "hat"), comparison(True, "beard")], sums=True)
    (warning,) = editor_warnings(run)
    assert "within the margin of 0.1: hat. So statistics of attributes rest on 2 of 6 explanations" in warning

    def said(apart: bool) -> str:
        rows = query(tmp_path, "from ways").to_pylist()
        rows = rows if apart else [row | {"admitted": row["n"]} for row in rows]
        settings = {"config": json.dumps({"prior": {}, "oracle": {}}), "target_attribute": "smile"}
        return next(
            limit.text for limit in limits(settings, [], {"guided": {"judged": 1}}, None, ways=rows) if "Two" in limit.title
        )

    assert "drew 2 of 6; 2 that it failed on were explained by search" in said(True)
    assert "rests on the 2 explanations that the search made at once; flips and the second model are of all 6." in said(True)
    assert "all count together" in said(False)
    write_ways(tmp_path / "alike", "r1", [comparison(True, "hat")], sums=True)
    assert editor_warnings(run_of(tmp_path / "alike", "r1", editor={})) == ()
