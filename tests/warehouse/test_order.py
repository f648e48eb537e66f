"""Of what people set and say the last one written counts, whatever their clocks say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from facts import explanation_rows, image_ids, run_rows

from warehouse.explorer.reviews import review
from warehouse.facts.order import next_moment
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query

AHEAD = datetime(2100, 1, 1, tzinfo=UTC)
IDS = image_ids(1)


def test_the_mark_that_was_given_last_counts_also_after_one_by_a_clock_that_is_ahead(tmp_path: Path) -> None:
    write_shard(tmp_path, "runs", "r1", "finished", run_rows())
    write_shard(tmp_path, "explanations", "r1", "0", explanation_rows(IDS))
    what = (IDS[0], "dime", 0)
    given = {"reviewer": ["Ada"], "mark": ["confirmed"], "attribute": [None], "note": [""], "written": [AHEAD]}
    write_shard(tmp_path, "reviews", "r1", "ahead", given | {"image_id": IDS, "method": ["dime"], "seed": [0]})
    review(tmp_path, "r1", "Ada", "rejected", explanation=what)
    assert query(tmp_path, "select mark, written from marks").to_pylist() == [
        {"mark": "rejected", "written": AHEAD + timedelta(microseconds=1)}
    ]


def test_every_fact_that_people_write_again_is_in_order(tmp_path: Path) -> None:
    again = [name for name, fact in FACTS.items() if "written" in fact.schema.names]
    assert again == ["policies", "reviews", "names"]
    before = datetime.now(UTC)
    for name in again:
        assert before <= next_moment(tmp_path, name, "r1") <= datetime.now(UTC)
    row = {"reviewer": ["Ada"], "kind": ["place"], "claim": ["c"], "name": ["n"], "has": [[]], "lacks": [[]], "written": [AHEAD]}
    write_shard(tmp_path, "names", "r1", "0", row)
    assert next_moment(tmp_path, "names", "r1") == AHEAD + timedelta(microseconds=1)
    assert next_moment(tmp_path, "names", "r2") < AHEAD
