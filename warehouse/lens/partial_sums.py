"""The sums of a shard: `attribute_sums` and `annotation_sums`, made from its rows by the SQL of the views of those names."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa

from warehouse.facts.schema import FACTS
from warehouse.facts.shards import Shard, find_shard, read_shard, write_shard
from warehouse.lens.catalog import SUMS, view_sql
from warehouse.lens.scans import scan, with_derived

_COLUMNS = ["image_id", "method", "arm", "seed", "source", "target", "flipped", "judge_flipped", "way"]


def write_sums(root: Path, images: Shard, explained: Shard, attributes: Shard, target_attribute: str | None) -> None:
    """Write the sums of a shard of attributes and of its images, unless they are there.

    The shard holds every arm and seed of its images: a pair that lies across two shards would not be counted.
    """
    run_id, key = attributes.run_id, attributes.key
    if all(find_shard(root, sums, run_id, key) for sums in SUMS.values()):
        return
    rows = {
        "explanations": read_shard(explained, _COLUMNS),
        "editors": _editors(root, run_id),
        "attributes": read_shard(attributes),
        "images": read_shard(images).drop_columns(["png"]),
        "runs": pa.table({"target_attribute": pa.array([target_attribute], pa.string())}),
    }
    with duckdb.connect(":memory:", config={"threads": 1}) as con:
        con.execute("create schema facts")
        for name, table in rows.items():
            con.register(name, table.append_column("run_id", pa.array([run_id] * len(table), pa.string())))
        con.execute(view_sql("admitted"))
        for name, sums in SUMS.items():
            con.execute(f"create view facts.unsummed_{name} as {with_derived(con, FACTS[name], f'from {name}')}")
            con.execute(f"create view facts.{sums} as {scan(FACTS[sums], {})}")
            con.execute(view_sql(sums))
            answer = con.execute(f"from {sums} order by all").to_arrow_table().drop_columns(["run_id"])
            write_shard(root, sums, run_id, key, answer.cast(FACTS[sums].schema_with(answer.column_names)))


def _editors(root: Path, run_id: str) -> pa.Table:
    """How the run's editor compares with its ladder: known before any image is explained otherwise than by the ladder."""
    found = find_shard(root, "editors", run_id, "all")
    return FACTS["editors"].schema.empty_table() if found is None else read_shard(found)
