"""People's SQL in a process of its own: what it may take, what it cannot harm, and that its answers are those of DuckDB here."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import psutil
import pytest

from cfx.errors import UserError
from cfx.scratch import scratch, sweep
from warehouse.lens.answer_files import FORMS
from warehouse.lens.answer_table import plain
from warehouse.lens.ask import WrongQuery, ask
from warehouse.lens.query_limits import GIB, Limits
from warehouse.lens.query_process import answer, write_answer
from warehouse.lens.readonly import QueryTimeout, QueryTooLarge, ReadOnlyError

QUICK = Limits(0.3, GIB // 2, GIB // 4, 1)
HOSTILE = {  # statement -> what it may end with, within its time
    "select levenshtein(repeat('a', 200000), repeat('b', 200000))": (QueryTimeout,),
    "select levenshtein(repeat('a', 100000000), repeat('b', 100000000))": (QueryTimeout, QueryTooLarge),
    "select damerau_levenshtein(repeat('ab', 20000), repeat('ba', 20000))": (QueryTimeout, QueryTooLarge),
    "select length(lpad('x', 2000000000, 'y'))": (QueryTimeout, QueryTooLarge),
    "select sum(length(lpad('x', 100000000, 'y'))) from range(1000)": (QueryTimeout, QueryTooLarge),
    "select length(repeat('x', 3000000000))": (QueryTimeout, QueryTooLarge),
    "select repeat(repeat('x', 1000000), 3000)": (QueryTimeout, QueryTooLarge),
    "select length(regexp_replace(repeat('a', 50000000), '(a|aa)+b?', 'x', 'g')) from range(100)": (QueryTimeout, QueryTooLarge),
    "select length(regexp_replace(repeat('a', 5000000), 'a', repeat('b', 1000), 'g'))": (QueryTimeout, QueryTooLarge),
    "select count(*) from range(10000000) a, range(10000000) b where a.range * b.range % 7 = 3": (QueryTimeout,),
    "from range(100000) a, range(100000) b order by 1 desc, 2": (QueryTimeout, QueryTooLarge),
    "with recursive t as (select 1 as x union all select x + 1 from t) select max(x) from t": (QueryTimeout, QueryTooLarge),
    "with recursive t as (select 1 as x union all select x + y.range from t, range(10) y) select count(*) from t": (
        QueryTimeout, QueryTooLarge,
    ),
    "from range(1000000000000)": (QueryTimeout, QueryTooLarge, UserError),
    "select range(1000000000)": (QueryTimeout, QueryTooLarge),
    "select string_agg(repeat('x', 1000), ',') from range(100000000)": (QueryTimeout, QueryTooLarge),
    "from pandas_scan(null)": (UserError,),
    "select " + "(" * 20_000 + "1" + ")" * 20_000: (UserError,),
    "select " + "[" * 900 + "1" + "]" * 900: (UserError,),
    "select " + "case when true then " * 5000 + "1" + " end" * 5000: (UserError,),
    "select 1" + " + 1" * 200_000: (UserError,),
    "select count(*) from (select a.range, b.range from range(1000000) a, range(1000) b group by all)": (
        QueryTimeout, QueryTooLarge,
    ),
    "select repeat('x', 1000) as x from range(1000000)": (QueryTimeout, UserError),
}  # fmt: skip
VALUES = """select * from (values
    (1, 9223372036854775807, 170141183460469231731687303715884105727::hugeint, 1.10::decimal(9, 2), 0.1::float, 'nan'::double,
     date '1969-12-31', timestamp '2026-01-02 03:04:05.678901', timestamptz '2026-01-02 03:04:05+00', time '23:59:59.5',
     'a"b,\nc'::varchar, '\\xff\\x00'::blob, [1, null, 3], {'a': [1.5, 'inf'::double], 'b': null}, map {'k': 1}, true,
     'b'::enum ('a', 'b'), uuid '00000000-0000-0000-0000-000000000001'),
    (null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null)
) t(c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18)"""


def file_of(root: Path, sql: str, form: str) -> bytes:
    file, _ = write_answer(root, sql, Limits(), form)
    with file:
        return file.read()


def test_an_answer_is_the_one_that_duckdb_gives_here(tmp_path: Path) -> None:
    for sql in (VALUES, "select sum(x) as n, sum(x) * 9000000000000000000 as n from range(4) t(x)", "select 1 as a where false"):
        here = ask(tmp_path, sql).rows
        found = answer(tmp_path, sql).rows
        assert repr(found.to_pylist()) == repr(here.to_pylist()) and found.schema == here.schema  # repr: nan is no nan
        for form in ("csv", "json", "table"):
            written, expected = file_of(tmp_path, sql, form), io.BytesIO()
            if form == "table":
                expected.write(plain(here).encode())
            else:
                FORMS[form](here, expected)
            assert written == expected.getvalue()
    found = answer(tmp_path, "select range from range(20000)", most=10_000)
    assert (found.rows.num_rows, found.more) == (10_000, True) and not answer(tmp_path, "select 1", most=1).more
    assert answer(tmp_path, "select $a as a", {"a": "x"}, lens=False).rows.to_pylist() == [{"a": "x"}]
    json_lines = json.loads(file_of(tmp_path, "select range as x from range(20001)", "json"))
    assert [row["x"] for row in json_lines] == list(range(20_001))


def test_what_a_query_takes_too_much_of_ends_it_and_nothing_else(tmp_path: Path) -> None:
    own = scratch(Path(tempfile.gettempdir()))
    folders = set(own.iterdir())
    for sql, kind, said in (
        ("select levenshtein(repeat('a', 200000), repeat('b', 200000))", QueryTimeout, "timed out after 0.3 s; raise --timeout"),
        ("from pandas_scan(null)", UserError, "ended its process (SIGSEGV)"),
        ("select length(repeat('x', 3000000000))", QueryTooLarge, "more than 0.5 GiB of memory"),
        ("from range(100000000)", UserError, "raise --memory"),
        ("select " + "[" * 900 + "1" + "]" * 900, UserError, "nested too deeply"),
    ):
        answer(tmp_path, "select 1", limits=replace(QUICK, seconds=30))  # the process is there
        began = time.monotonic()
        with pytest.raises(kind) as refused:
            answer(tmp_path, sql, limits=QUICK if kind is QueryTimeout else Limits(20, GIB // 2, GIB // 4, 1))
        assert said in str(refused.value) and (time.monotonic() - began < 2.3 or kind is not QueryTimeout)
    with pytest.raises(ReadOnlyError):
        answer(tmp_path, "drop view runs")
    with pytest.raises(WrongQuery, match="there is no view 'rums'; did you mean runs") as wrong:
        answer(tmp_path, "from rums")
    assert isinstance(wrong.value, duckdb.Error)
    with pytest.raises(ReadOnlyError, match="Cannot access file"):
        answer(tmp_path, "from read_text('/etc/hostname')")
    assert len(set(own.iterdir()) - folders) <= 1  # of the process that waits


@pytest.mark.long
@pytest.mark.parametrize("sql", HOSTILE, ids=lambda sql: sql[:60])
def test_no_statement_outlives_its_limit_or_takes_more_memory(tmp_path: Path, sql: str) -> None:
    limits, own = Limits(1.0), psutil.Process()
    answer(tmp_path, "select 1")
    (there,) = own.children()
    process = subprocess.Popen(  # outside, so that what a query holds up cannot hold this up
        [sys.executable, "-c", PEAK, str(there.pid)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "looks\n"
    began = time.monotonic()
    with pytest.raises(HOSTILE[sql]):
        answer(tmp_path, sql, limits=limits)
    assert time.monotonic() - began < limits.seconds + 2
    assert int(process.communicate()[0]) < 2 * GIB
    assert answer(tmp_path, "select 42 as n").rows.to_pylist() == [{"n": 42}]


PEAK = """
import psutil, sys, time
there, most, until = psutil.Process(int(sys.argv[1])), 0, time.monotonic() + 4
print("looks", flush=True)
while time.monotonic() < until:
    try:
        most = max(most, there.memory_info().rss)
    except psutil.Error:
        break
    time.sleep(0.01)
print(most)
"""


@pytest.mark.long
def test_who_asked_and_was_killed_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    slow = "select count(*) from range(10000000) a, range(10000000) b where a.range * b.range % 7 = 3"
    command = [str(Path(sys.executable).with_name("cfx")), "query", slow, "-w", str(tmp_path)]
    asked = subprocess.Popen(command, env=os.environ | {"TMPDIR": str(tmp_path)})
    until = time.monotonic() + 30
    while not (children := psutil.Process(asked.pid).children()) and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(2)
    asked.kill()
    asked.wait()
    assert psutil.wait_procs(children, timeout=5)[1] == []
    sweep(tmp_path)  # as the next audit does
    assert list(tmp_path.iterdir()) == []
