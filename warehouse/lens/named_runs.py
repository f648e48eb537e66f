"""Which runs a query is about, where it says so: `where run_id = '...'`, `in (...)` or a parameter. It then reads no others.

DuckDB leaves out the files of other runs by itself, but only after it has gone through a list of all of them for every mention
of a fact, hundreds of times in a view such as `gate`. So the runs are read off the query beforehand, as DuckDB's parser has it.
It is a proof, not a guess: every part of the query that reads a table must name the runs of that table, itself or through tables
joined by run_id. Of anything else every run is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from warehouse.facts.schema import FACTS
from warehouse.lens.catalog import LENS, NAMES, VIEWS
from warehouse.lens.listed_runs import compares, with_bases
from warehouse.lens.needed_views import Json, parsed

# Views whose rows are about two runs: they need both named. Of the others, rows of a run rest on that run and on what it is
# compared with (`bases`), but for those of no run or of all.
PAIRED = ("changes", "edit_changes", "flip_changes", "unedited")
OF_ALL = ("benchmark", "edits", "draws", "damaged")

Node = Mapping[str, Json]


class _OfAll(Exception):
    """A part of the query is not about certain runs."""


@dataclass
class _Joined:
    """Tables of one SELECT that have the same run_id: what they are called, and those of them that are about two runs."""

    names: set[str]
    paired: set[str]


@dataclass
class _Said:
    """What the WHERE of a SELECT says of run_id and base_id: by table, '' where it names none."""

    runs: dict[str, set[str]] = field(default_factory=dict)
    bases: dict[str, set[str]] = field(default_factory=dict)


def runs_read(root: Path, sql: str, values: Mapping[str, object]) -> tuple[str, ...] | None:
    """The runs of which a query may read anything: those that it names, and what these are compared with; None: all runs."""
    named = named_runs(sql, values)
    return with_bases(root, named) if named is not None and compares(sql) else named


def named_runs(sql: str, values: Mapping[str, object]) -> tuple[str, ...] | None:
    """The runs whose facts a query reads; None: it may read any.

    Examples:
        >>> named_runs("from scorecard where run_id = 'a'", {}), named_runs("from scorecard", {})
        (('a',), None)
        >>> named_runs("from gate join runs using (run_id) where run_id in ('a', $run) and n > 3", {"run": "b"})
        ('a', 'b')
    """
    statements = parsed(sql)
    if not isinstance(statements, list) or len(statements) != 1:
        return None
    found = set[str]()
    try:
        for select, ctes in _selects(statements, frozenset()):
            found |= _runs_of(select, ctes, values)
    except _OfAll:
        return None
    return tuple(sorted(found)) if found else None


def _selects(node: Json, ctes: frozenset[str]) -> Iterator[tuple[Node, frozenset[str]]]:
    """Every SELECT in a parsed query, with the names of the CTEs that it sees. Raises _OfAll."""
    if isinstance(node, list):
        for part in node:
            yield from _selects(part, ctes)
    if not isinstance(node, dict):
        return
    if node.get("type") in ("RECURSIVE_CTE_NODE", "CTE_NODE", "SHOW_REF", "PIVOT"):
        raise _OfAll
    match node.get("cte_map"):
        case {"map": list(entries)}:
            for entry in entries:  # a CTE sees those before it, not itself
                assert isinstance(entry, dict)
                yield from _selects(entry["value"], ctes)
                ctes |= {str(entry["key"]).lower()}
    if node.get("type") == "SELECT_NODE":
        yield node, ctes
    for key, part in node.items():
        if key != "cte_map":
            yield from _selects(part, ctes)


def _runs_of(select: Node, ctes: frozenset[str], values: Mapping[str, object]) -> set[str]:
    """The runs that one SELECT reads itself. Raises _OfAll."""
    groups = _joined(select.get("from_table"), ctes)
    said = _Said()
    _read_where(select.get("where_clause"), values, said)
    found = set[str]()
    for group in groups:
        runs = [said.runs[name] for name in group.names if name in said.runs]
        if len(groups) == 1 and "" in said.runs:
            runs.append(said.runs[""])
        if not runs:
            raise _OfAll
        found |= set.intersection(*runs) or runs[0]
        for name in group.paired:
            bases = said.bases.get(name) or (said.bases.get("") if len(group.names) == len(groups) == 1 else None)
            if bases is None:
                raise _OfAll
            found |= bases
    return found


def _joined(node: Json, ctes: frozenset[str]) -> list[_Joined]:
    """The tables that a FROM reads itself, those that are joined by run_id together."""
    match node:
        case {"type": "EMPTY"} | {"type": "SUBQUERY"} | {"type": "EXPRESSION_LIST"} | None:
            return []  # a subquery is a SELECT of its own
        case {"type": "TABLE_FUNCTION", "function": {"function_name": "unnest" | "range" | "generate_series"}}:
            return []
        case {"type": "BASE_TABLE", "schema_name": str(schema), "table_name": str(table), "alias": str(alias), **more}:
            name = table.lower()
            if not schema and name in ctes:
                return []
            if more["column_name_alias"] or not _of_runs(schema.lower(), name):
                raise _OfAll
            return [_Joined({called := (alias or table).lower()}, {called} if name in PAIRED else set())]
        case {
            "type": "JOIN",
            "left": left,
            "right": right,
            "ref_type": "REGULAR" | "CROSS",
            "using_columns": using,
            "condition": condition,
        }:
            groups, others = _joined(left, ctes), _joined(right, ctes)
            if isinstance(using, list) and "run_id" in [str(name).lower() for name in using]:
                return _together([*groups, *others])
            groups += others
            for one, other in _equal_ids(condition):
                same = [group for group in groups if {one, other} & group.names]
                groups = [group for group in groups if group not in same] + _together(same)
            return groups
    raise _OfAll


def _of_runs(schema: str, name: str) -> bool:
    """Whether rows of a table are each about one run, and rest on it and what it is compared with alone."""
    known = {*FACTS, *VIEWS, *(view.removeprefix(LENS) for view in NAMES)}
    return schema in ("", "main", "lens") and name in known and name not in OF_ALL


def _together(groups: list[_Joined]) -> list[_Joined]:
    if not groups:
        return []
    return [_Joined(set().union(*(group.names for group in groups)), set().union(*(group.paired for group in groups)))]


def _equal_ids(condition: Json) -> Iterator[tuple[str, str]]:
    """The tables whose run_id a join's condition demands to be the same."""
    for part in _conjuncts(condition):
        match part:
            case {"type": "COMPARE_EQUAL", "left": left, "right": right}:
                one, other = _column(left), _column(right)
                if one and other and one[1] == other[1] == "run_id" and one[0] and other[0]:
                    yield one[0], other[0]


def _read_where(node: Json, values: Mapping[str, object], said: _Said) -> None:
    for part in _conjuncts(node):
        match part:
            case {"type": "COMPARE_EQUAL", "left": left, "right": right}:
                column, others = (_column(left), [right]) if _column(left) else (_column(right), [left])
            case {"type": "COMPARE_IN", "children": [left, *others]}:
                column = _column(left)
            case _:
                continue
        named = [_value(other, values) for other in others]
        if column is None or None in named:
            continue
        texts = {text for text in named if text is not None}
        if column[1] in ("run_id", "base_id"):
            of = said.runs if column[1] == "run_id" else said.bases
            of[column[0]] = (of.get(column[0], texts) & texts) or texts


def _conjuncts(node: Json) -> Iterator[Json]:
    match node:
        case {"type": "CONJUNCTION_AND", "children": list(children)}:
            for child in children:
                yield from _conjuncts(child)
        case dict():
            yield node


def _column(node: Json) -> tuple[str, str] | None:
    """Table, '' where it is not said, and name of a column, in small letters."""
    match node:
        case {"type": "COLUMN_REF", "column_names": [str(name)]}:
            return "", name.lower()
        case {"type": "COLUMN_REF", "column_names": [*_, str(table), str(name)]}:
            return table.lower(), name.lower()
    return None


def _value(node: Json, values: Mapping[str, object]) -> str | None:
    """The text that a constant or a parameter stands for."""
    match node:
        case {"type": "VALUE_CONSTANT", "value": {"type": {"id": "VARCHAR"}, "is_null": False, "value": str(text)}}:
            return text
        case {"type": "VALUE_PARAMETER", "identifier": str(name)} if isinstance(values.get(name), str):
            return str(values[name])
    return None
