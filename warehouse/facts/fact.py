"""What a fact is: its fixed columns, and its families of wide columns, one column an attribute."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

VERSION = "1"


@dataclass(frozen=True)
class Family:
    """The wide columns `<prefix><attribute>`, all of one type."""

    prefix: str
    type: pa.DataType
    nullable: bool
    description: str


@dataclass(frozen=True)
class Fact:
    """One fact: what a row is, its fixed columns, its families of wide columns."""

    name: str
    description: str
    schema: pa.Schema
    families: tuple[Family, ...] = ()
    gained: tuple[str, ...] = ()  # columns that shards of older versions do not have: null there

    def family(self, column: str) -> Family | None:
        """The family that a column belongs to, or None."""
        return next((f for f in self.families if column.startswith(f.prefix) and column != f.prefix), None)

    def schema_with(self, wide: Iterable[str]) -> pa.Schema:
        """The Arrow schema of a shard that has these wide columns, in this order, after the fixed ones."""
        families = ((name, self.family(name)) for name in wide)
        fields = [pa.field(name, family.type, family.nullable) for name, family in families if family is not None]
        return pa.schema([*self.schema, *fields], metadata=self.schema.metadata)


def fact(name: str, description: str, fields: list[pa.Field], *families: Family, gained: tuple[str, ...] = ()) -> Fact:
    return Fact(name, description, pa.schema(fields, metadata={"fact": name, "version": VERSION}), families, gained)


def column(name: str, type_: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, type_, nullable=False, metadata={"description": description})


def optional(name: str, type_: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, type_, nullable=True, metadata={"description": description})
