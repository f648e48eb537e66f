"""Shards of other versions: one that is older than a column, and one with a column that this version does not know."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from facts import rewrite

from warehouse.facts.schema import FACTS
from warehouse.lens.connect import query

FIRST: dict[str, list[str]] = json.loads((Path(__file__).parent / "first_columns.json").read_text())


def value(kind: pa.DataType) -> Any:
    """A value of this type."""
    plain: dict[Any, Any] = {pa.string(): "x", pa.binary(): b"x", pa.bool_(): True, pa.date32(): date(2025, 1, 1)}
    if pa.types.is_timestamp(kind):
        return datetime(2025, 1, 1, tzinfo=UTC)
    if pa.types.is_struct(kind):
        return {}
    if pa.types.is_list(kind):
        return []
    return plain.get(kind, 1)


def write(root: Path, fact: str, run: str, schema: pa.Schema) -> None:
    table = pa.table({field.name: pa.array([value(field.type)], field.type) for field in schema}, schema=schema)
    path = root / "facts" / fact / f"run_id={run}" / "0.parquet"
    path.parent.mkdir(parents=True)
    rewrite(path, table)


def test_older_and_newer_shards_of_every_fact_are_read_together(tmp_path: Path) -> None:
    for name, fact in FACTS.items():
        wide = [family.prefix + "hat" for family in fact.families]
        now = fact.schema_with(wide)
        write(tmp_path, name, "b-now", now)
        write(tmp_path, name, "a-older", pa.schema([field for field in now if field.name in (*FIRST[name], *wide)]))
        write(tmp_path, name, "c-newer", now.append(pa.field("later", pa.string())))
        write(tmp_path, name, "0-newer", now.insert(0, pa.field("later", pa.string())))
    for name, fact in FACTS.items():
        rows = {row["run_id"]: row for row in query(tmp_path, f"from facts.{name}").to_pylist()}
        assert sorted(rows) == ["0-newer", "a-older", "b-now", "c-newer"], name
        assert all("later" not in row for row in rows.values())
        for column in fact.schema.names:
            assert (rows["a-older"][column] is None) is (column not in FIRST[name]), f"{name}.{column}"
            assert rows["b-now"][column] == rows["c-newer"][column] == rows["0-newer"][column] is not None
