"""A warehouse in which a newer version of cfx works, too: what it added is not read, what it changed is refused."""

from pathlib import Path

import facts
import pyarrow as pa
import pytest

from warehouse.facts import fact as kinds
from warehouse.facts import schema, shards
from warehouse.facts.fact import Fact
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query
from warehouse.lens.scans import NewerFacts

IDS = facts.image_ids(3)


def newer(fact: Fact, version: str, *more: pa.Field) -> Fact:
    """The fact as a newer version has it."""
    known = pa.schema([*fact.schema, *more], metadata={"fact": fact.name, "version": version})
    return Fact(fact.name, fact.description, known, fact.families, fact.gained)


def write_newer(root: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """A run of a newer version, whose shards have a column more each."""
    rows = {
        "runs": facts.run_rows(),
        "images": facts.image_rows(IDS, a_hat=[True, False, None]),
        "predictions": facts.prediction_rows(IDS, ["smile", "smile", "no_smile"]),
    }
    with monkeypatch.context() as patch:
        for name, columns in rows.items():
            of_then = newer(schema.FACTS[name], version, pa.field("later", pa.string()))
            patch.setattr(shards, "fact_named", lambda _, fact=of_then: fact)
            first = next(iter(columns.values()))
            write_shard(root, name, "a-newer", "0", columns | {"later": ["x"] * len(first)})


def test_a_column_that_a_newer_version_added_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_newer(tmp_path, monkeypatch, kinds.VERSION)
    write_shard(tmp_path, "runs", "b-own", "0", facts.run_rows())
    write_shard(tmp_path, "images", "b-own", "0", facts.image_rows(IDS, a_hat=[True, False, None]))
    write_shard(tmp_path, "predictions", "b-own", "0", facts.prediction_rows(IDS, ["smile", "smile", "no_smile"]))
    for name in ("runs", "images", "predictions"):
        found = query(tmp_path, f"from facts.{name}")
        assert set(found["run_id"].to_pylist()) == {"a-newer", "b-own"} and "later" not in found.column_names, name
    assert query(tmp_path, "from facts.predictions").column_names == [*schema.FACTS["predictions"].schema.names, "run_id"]


def test_facts_of_a_newer_form_are_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_newer(tmp_path, monkeypatch, "2")
    with pytest.raises(
        NewerFacts, match=r"run_id=a-newer/0\.parquet was written by a newer cfx, in version 2 .*pip install --upgrade"
    ):
        query(tmp_path, "from runs")
