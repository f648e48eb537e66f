"""What takes longest of each run, computed once and kept beside its facts: a query over many runs reads it.

`<root>/kept/<view>/run_id=<run>/<digest>.parquet` holds the rows of a view about one run. The digest is of all that they follow
from: the files of every fact that the view reads, by name, size and time, those of the run and of what it is compared with; the
SQL of the views and the code that lays them out; DuckDB. A file with another digest is of other facts, or of another version: it
is not read, and goes when the view is kept anew. Questions about one run, the gate, reports and `cfx verify` read no kept rows;
reports write them. What cannot be kept, in a warehouse that is read-only, is computed each time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from warehouse.facts.seal import UNSEALED, is_whole, sealed
from warehouse.facts.storage import NotWritten, Root, files_below, remembered, write_whole
from warehouse.lens.catalog import NAMES, VIEWS, view_sql
from warehouse.lens.listed_runs import bases_of, compares, with_bases
from warehouse.lens.needed_views import needed_facts, needed_views
from warehouse.lens.open_lens import (
    State,
    empty_lens,
    files_of,
    lay_out,
    lay_out_facts,
    open_warehouse,
    state_of_files,
    with_sums,
)
from warehouse.lens.readonly import QueryTimeout
from warehouse.lens.settled import settle
from warehouse.lens.wholeness import Files, Wholeness, whole_of

KEPT = (
    "group_counts", "interventions", "ranked_attributes", "attribute_effects", "region_shifts", "claims", "scorecard", "gate",
)  # fmt: skip
FEW = 8  # runs: of fewer all is computed as fast as looked up
TOGETHER = 16  # runs that are computed in one lens: to lay it out takes longer than a run
_CODE = (
    "facts/schema.py", "lens/catalog.py", "lens/open_lens.py", "lens/kept.py", "lens/needed_views.py", "lens/partial_sums.py",
    "lens/scans.py", "lens/settled.py",
)  # fmt: skip
_MACRO = re.compile(r"^create macro\b", re.MULTILINE)
_log = logging.getLogger(__name__)

Digests = dict[tuple[str, str], str]  # by view and run


def open_all(root: Path, sql: str, lens: bool = False, seconds: float = 300) -> duckdb.DuckDBPyConnection:
    """A lens over every run for this query, as of `open_warehouse`, in which views of KEPT are what is kept of each run.

    What is not kept yet is computed, some runs at a time, and kept.

    Raises QueryTimeout where that takes more than so many seconds; what was computed by then is kept.
    """
    place, until = remembered(root), time.monotonic() + seconds
    wanted = [name for name in needed_views(sql, lens, KEPT) if name in KEPT]
    if not wanted or not isinstance(place, Path):
        return open_warehouse(root, sql=sql, lens=lens)
    facts = with_sums(needed_facts(sql, lens))
    there, whole = whole_of(place, files_of(place, facts))
    runs = sorted(set().union(*there.values()) - {run for run, _ in whole.left_out})
    if len(runs) < FEW:
        return open_warehouse(root, sql=sql, lens=lens)
    if not lens:
        whole.log()
    tables = dict(_rows(place, wanted, runs, _digests(place, _with_parts(wanted), runs, there), until, seconds))
    con = _opened(place, whole, there, sql, tables, lens)
    if lens:
        con.execute("set search_path = 'lens,main'")
    return con


def _opened(
    place: Path, whole: Wholeness, there: Files, sql: str, tables: Mapping[str, pa.Table], lens: bool = False
) -> duckdb.DuckDBPyConnection:
    """A lens for this query, in which these views are tables: what they are made of is not read."""
    con, known = empty_lens(place, whole), tuple(tables)
    lay_out_facts(con, {name: there[name] for name in with_sums(needed_facts(sql, lens, known))}, from_rows=False)
    for name in needed_views(sql, lens, known):
        if name in tables:
            _lay_out_kept(con, name, tables[name])
        else:
            lay_out(con, [name])
    return con


def keep_all(root: Path, run_ids: Sequence[str]) -> None:
    """Keep the views of KEPT of these runs, as writing their reports does: for runs that have none."""
    place = remembered(root)
    if isinstance(place, Path):
        there, whole = whole_of(place, files_of(place, _read_by_kept(), with_bases(root, run_ids)))
        sound = [run for run in run_ids if run not in {run for run, _ in whole.left_out}]
        for _ in _rows(place, KEPT, sound, _digests(place, KEPT, sound, there), math.inf, math.inf):
            pass


def digests(root: Path, run_id: str) -> Digests:
    """Under what each view of KEPT is to be kept of a run, by the facts that are there now; nothing for an object store."""
    place = remembered(root)
    if not isinstance(place, Path):
        return {}
    return _digests(place, KEPT, [run_id], files_of(place, _read_by_kept(), with_bases(root, [run_id])))


def keep(lens: duckdb.DuckDBPyConnection, root: Path, run_id: str, before: Digests) -> None:
    """Keep the views of KEPT of a run, which this lens has; before: its digests before the lens was opened.

    Facts that came in the meantime may be in the rows or not: then nothing is kept.
    """
    now = digests(root, run_id)
    for name in KEPT:
        if now.get((name, run_id), "") == before.get((name, run_id)):
            _write(root, name, run_id, now[name, run_id], _asked(lens, name, [run_id]))


def _read_by_kept() -> list[str]:
    return with_sums({fact for name in KEPT for fact in needed_facts(f"from {name}")})


def _digests(place: Path, names: Collection[str], runs: Sequence[str], there: Files) -> Digests:
    bases = bases_of(place, runs)
    states: dict[tuple[str, str], State] = {}

    def state(fact: str, run: str) -> State:
        if (fact, run) not in states:
            found = state_of_files([there[fact].get(run, [])])
            states[fact, run] = tuple((Path(name).name, modified, size) for name, modified, size in found)
        return states[fact, run]

    made: Digests = {}
    for name in names:
        read = with_sums(needed_facts(f"from {name}"))
        compared = compares(f"from {name}")
        for run in runs:
            of = (run, *(bases[run] if compared else ()))
            content = [_code(), name, [[each, fact, state(fact, each)] for each in of for fact in read]]
            made[name, run] = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
    return made


@cache
def _code() -> str:
    """A hash of all that turns facts into rows."""
    digest, home = hashlib.sha256(duckdb.__version__.encode()), files("warehouse")
    for name in _CODE:
        digest.update(home.joinpath(*name.split("/")).read_bytes())
    for name in (*VIEWS, *NAMES):
        digest.update(view_sql(name).encode())
    return digest.hexdigest()


def _rows(
    place: Path, names: Sequence[str], runs: Sequence[str], known: Digests, until: float, seconds: float
) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each of these views about these runs."""
    found = {(name, run): _read(place, name, run, known[name, run]) for name in names for run in runs}
    parts = _with_parts(names)
    for run in runs:
        if any(found[name, run] is None for name in names):
            found |= {(name, run): _read(place, name, run, known[name, run]) for name in parts if name not in names}
    for lacking, some in _together({run: [name for name in parts if found.get((name, run), 0) is None] for run in runs}):
        if time.monotonic() > until:
            raise QueryTimeout(seconds)
        tables = {name: [found[name, run] for run in some] for name in parts if name not in lacking}
        for (name, run), rows in _computed(place, lacking, some, tables).items():
            found[name, run] = rows
            _write(place, name, run, known[name, run], rows)
    for name in names:
        yield name, pa.concat_tables([table for run in runs if (table := found[name, run]) is not None])


def _with_parts(names: Iterable[str]) -> list[str]:
    """These of KEPT, and those that they are made of."""
    needed = needed_views(_every(names))
    return [name for name in KEPT if name in needed]


def _every(names: Iterable[str]) -> str:
    return ";".join(f"from {name}" for name in names)


def _together(lacking: Mapping[str, Sequence[str]]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Runs that lack the same views, some at a time, and what they lack."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for run, names in lacking.items():
        alike.setdefault(tuple(names), []).append(run)
    for names, runs in alike.items():
        for start in range(0, len(runs) if names else 0, TOGETHER):
            yield names, runs[start : start + TOGETHER]


def _computed(
    place: Path, names: Sequence[str], runs: Sequence[str], known: Mapping[str, Sequence[pa.Table]]
) -> dict[tuple[str, str], pa.Table]:
    """The rows of these views about these runs. known: those of other views about them, which need not be computed."""
    there, whole = whole_of(place, files_of(place, with_sums(needed_facts(_every(names))), with_bases(place, runs)))
    given = {name: pa.concat_tables(tables) for name, tables in known.items()}
    with closing(_opened(place, whole, there, _every(names), given)) as lens:
        settle(lens, runs)
        tables = {name: _asked(lens, name, runs) for name in names}
    return {(name, run): table.filter(pc.equal(table["run_id"], run)) for name, table in tables.items() for run in runs}


def _asked(lens: duckdb.DuckDBPyConnection, name: str, runs: Sequence[str]) -> pa.Table:
    return lens.execute(f"from {name} where list_contains($runs, run_id)", {"runs": list(runs)}).to_arrow_table()


def _lay_out_kept(con: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """A view of these rows, and the macros of its file, which other views use."""
    for statement in con.extract_statements(view_sql(name)):
        if _MACRO.search(statement.query):
            con.execute(statement)
    # HUGEINT, what sums of integers are, leaves DuckDB as a decimal of 38 digits.
    large = [field.name for field in rows.schema if field.type == pa.decimal128(38, 0)]
    replaced = ", ".join(f'"{column}"::hugeint as "{column}"' for column in large)
    con.register("given", rows)
    con.execute(f"create table facts.kept_{name} as select *{f' replace ({replaced})' if large else ''} from given")
    con.unregister("given")
    con.execute(f"create view main.{name} as from facts.kept_{name}")


def _place(root: Root, name: str, run_id: str, digest: str) -> Root:
    return root / "kept" / name / f"run_id={run_id}" / f"{digest}.parquet"


def _read(root: Path, name: str, run_id: str, digest: str) -> pa.Table | None:
    """What is kept under this digest; None where nothing is, or where it is damaged."""
    with suppress(OSError):
        data = _place(root, name, run_id, digest).read_bytes()
        if is_whole(data):
            with pq.ParquetFile(pa.BufferReader(data)) as file:
                return file.read().replace_schema_metadata(None)
    return None


def _write(root: Path, name: str, run_id: str, digest: str, rows: pa.Table) -> None:
    """Keep rows in place of those under other digests."""
    path = _place(root, name, run_id, digest)
    buffer = BytesIO()
    with pq.ParquetWriter(buffer, rows.schema) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({"seal": UNSEALED})
    try:
        write_whole(root, path, sealed(buffer.getvalue()), replace=True, lasting=False)
        for other in files_below(path.parent, "*.parquet"):
            if other.name != path.name:
                other.unlink(missing_ok=True)
    except (NotWritten, OSError) as error:
        _log.debug("%s of %s is not kept: %s", name, run_id, error)
