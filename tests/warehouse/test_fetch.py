"""Values reach SQL as parameters: no run id, attribute or mark can be more than what it is."""

import shutil
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from facts import rewrite, run_rows, write_run
from portrait_run import write_portrait_run

from cfx.errors import UserError
from warehouse.evidence.export import export
from warehouse.evidence.verify import verify
from warehouse.explorer.reviews import review
from warehouse.explorer.run_table import RunTables
from warehouse.explorer.selection import Selection, selection_of
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query
from warehouse.lens.fetch import fetch, printed
from warehouse.lens.gate import gate, read_policy
from warehouse.report.render import report_html, write_report

HOSTILE = [
    "nobody' or '1' = '1",
    "r1' --",
    "r1'; drop view runs; --",
    "r1'' union all from runs --",
    "$run",
    "{run}",
    'r"1',
    "r1\\'",
    "r1\n",
    "%",
    "",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warehouse")
    write_shard(folder, "runs", "r1", "started", run_rows())
    return folder


@pytest.mark.parametrize("text", [*HOSTILE, "r1"])
def test_a_value_comes_back_as_it_is(text):
    with duckdb.connect() as con:
        assert fetch(con, "select $run as run, '$run' as word", run=text) == [{"run": text, "word": "$run"}]


@pytest.mark.parametrize("text", [*HOSTILE, "r1"])
def test_printed_sql_gives_the_same_answer(text):
    sql = """select $run as run, '$run it''s' as word, "$run" as "na""me"  -- $run isn't one here
        from (select 7 as "$run") limit $most"""
    with duckdb.connect() as con:
        rows = fetch(con, sql, run=text, most=3)
        assert fetch(con, printed(sql, run=text, most=3)) == rows
    assert rows == [{"run": text, "word": "$run it's", 'na"me': 7}]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_hostile_run_id_finds_a_run(root, text):
    assert query(root, "from runs where run_id = $run", {"run": text}).num_rows == 0
    for ask in (report_html, gate, read_policy):
        with pytest.raises(UserError, match="there is no run .*; the runs are: r1$"):
            ask(root, text)
    with pytest.raises(UserError, match="there is no run"):
        review(root, text, "Ada", "confirmed", attribute="glasses")
    with pytest.raises(UserError, match="there is no run"):
        export(root, text, root / "out.zip")
    assert not (root / "out.zip").exists() and not (root / "reports").exists()


@pytest.mark.parametrize("text", HOSTILE)
def test_no_hostile_value_widens_a_filter(tmp_path, text):
    write_run(tmp_path, "r1", {"smile": 0.2}, n=4)
    table = RunTables(tmp_path).of("r1")
    assert Selection(values={"target": (text,)}).count(table) == 0 == Selection(values={"reviewed": (text,)}).count(table)
    assert Selection(file=text).count(table) == (0 if text else 4)
    for name in ("target", "reviewed", "changed", "sort", "min.l1"):
        chosen = selection_of([(name, text)], table)
        assert len(chosen.problems) == bool(text) and chosen == Selection(problems=chosen.problems)


def test_a_run_whose_folder_has_a_hostile_name_is_reported_and_verified(tmp_path):
    # No audit writes such a name, but facts can come from elsewhere.
    write_portrait_run(tmp_path, "planted-run", n=24, size=16)
    name = "it's $run {run} -- 1"
    for folder in tmp_path.glob("facts/*/run_id=planted-run"):
        for path in Path(shutil.move(folder, folder.with_name(f"run_id={name}"))).glob("*.parquet"):
            rewrite(path, pq.read_table(path))
    write_report(tmp_path, name)
    found = verify(tmp_path, name)
    assert found.sound and found.recomputed > 100
