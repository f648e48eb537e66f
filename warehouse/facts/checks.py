"""Rows on their way into a shard: exactly a fact's columns, or an error that names the column at fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from cfx.errors import UserError
from warehouse.facts.fact import Fact

Rows: TypeAlias = pa.Table | Mapping[str, Sequence[object]]


def checked(fact: Fact, rows: Rows) -> pa.Table:
    """Rows as a table of this fact's columns, fixed ones first, in the schema's order.

    rows: a table whose types are the schema's, or values by column; a gained column that may be null may be left out. Raises
    UserError naming the column when one is missing, unknown, of another type, null where it may not be, or holds a number that
    is not finite.
    """
    names = list(rows.column_names if isinstance(rows, pa.Table) else rows)
    schema = fact.schema_with(_wide(fact, names))
    first = schema.names[0]
    unsaid = {name: pa.nulls(len(rows[first]), schema.field(name).type) for name in _unsaid(fact, names)}
    columns = {
        field.name: _column(fact, field, unsaid[field.name] if field.name in unsaid else rows[field.name]) for field in schema
    }
    for name, column in columns.items():
        if len(column) != len(columns[first]):
            raise UserError(f"{fact.name}: column {name!r} has {len(column)} rows, {first!r} has {len(columns[first])}")
    return pa.table(columns, schema=schema)


def _unsaid(fact: Fact, names: list[str]) -> list[str]:
    """The gained columns that rows leave out, as shards of older versions do: null."""
    return [name for name in fact.gained if name not in names and fact.schema.field(name).nullable]


def _wide(fact: Fact, names: list[str]) -> list[str]:
    """The names that are not fixed columns, all proven to be wide columns of this fact, each attribute whole."""
    unsaid = _unsaid(fact, names)
    missing = [name for name in fact.schema.names if name not in names and name not in unsaid]
    wide = [name for name in names if name not in fact.schema.names]
    families = {name: fact.family(name) for name in wide}
    attributes = {name[len(family.prefix) :] for name, family in families.items() if family}
    missing += [
        f.prefix + attribute for attribute in sorted(attributes) for f in fact.families if f.prefix + attribute not in wide
    ]
    if missing:
        raise UserError(f"{fact.name}: column {missing[0]!r} is missing")
    unknown = [name for name in wide if families[name] is None]
    if unknown:
        known = [*fact.schema.names, *(f"{family.prefix}<attribute>" for family in fact.families)]
        raise UserError(f"{fact.name}: there is no column {unknown[0]!r}; the columns are {', '.join(known)}")
    twice = [name for name, count in Counter(map(str.lower, names)).items() if count > 1]
    if twice:
        raise UserError(f"{fact.name}: column {twice[0]!r} is there more than once; SQL does not tell upper from lower case")
    return wide


def _column(fact: Fact, field: pa.Field, values: pa.ChunkedArray | Sequence[object]) -> pa.ChunkedArray | pa.Array:
    """One column of the field's type, without nulls where there may be none and without NaN or infinity anywhere."""
    column = f"{fact.name}: column {field.name!r}"
    if not isinstance(values, pa.ChunkedArray | pa.Array):
        values = _array(column, field.type, values)
    if values.type != field.type:
        raise UserError(f"{column} takes {field.type}, not {values.type}")
    if values.null_count and not field.nullable:
        raise UserError(f"{column} is null in {values.null_count} of {len(values)} rows; every row needs a value")
    numbers = pc.list_flatten(values) if pa.types.is_list(values.type) else values
    if pa.types.is_floating(numbers.type) and pc.all(pc.is_finite(numbers)).as_py() is False:
        raise UserError(f"{column} holds a number that is not finite, which would poison every mean over it")
    return values


def _array(column: str, type_: pa.DataType, values: Sequence[object]) -> pa.Array:
    try:
        if pa.types.is_integer(type_) and pa.types.is_floating(pa.array(values).type):  # Arrow would cut the decimals off
            raise UserError(f"{column} takes {type_}, not decimals")
        return pa.array(values, type=type_)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise UserError(f"{column} takes {type_}: {error}") from error
