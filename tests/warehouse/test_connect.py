"""The lens: what can be asked, what cannot, and what a reader sees while others write."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from facts import attribute_rows, image_ids, prediction_rows, run_rows, write_run

import warehouse
from warehouse.facts.damage import DamagedRun
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import write_shard
from warehouse.lens.catalog import VIEWS
from warehouse.lens.connect import open_warehouse, query, views
from warehouse.lens.names import NAMED, WRITTEN
from warehouse.lens.readonly import ReadOnlyError, refuse_writes

IDS = image_ids(2)
WIDE = re.compile(r"[acdmpqsv]_|(before|after|change|switched)_")


def write_attributes(root, run_id, **changes):
    rows = attribute_rows(IDS, {name: [0.4, 0.4] for name in changes}, {name: [q, q] for name, q in changes.items()})
    return write_shard(root, "attributes", run_id, "0", rows)


def test_every_fact_and_view_can_be_asked_before_there_are_facts(tmp_path):
    for view in views(tmp_path / "nowhere"):
        assert query(tmp_path / "nowhere", f"select * from {view.name}", lens=True).num_rows == 0
    assert not (tmp_path / "nowhere").exists()


def test_every_file_of_views_is_loaded_and_described(tmp_path):
    described = {view.name: view for view in views(tmp_path)}
    assert set(VIEWS) == {path.stem for path in (Path(warehouse.__file__).parent / "views").glob("*.sql")}
    written = (Path(warehouse.__file__).parent / "views" / "lens").glob("*.sql")
    assert {path.stem for path in written} == set(WRITTEN)
    assert set(described) == set(VIEWS) | set(FACTS) | set(NAMED)
    assert all("Over: " in described[name].description for name in (*VIEWS, *NAMED) if name not in FACTS)
    assert described["features"].description == FACTS["features"].description
    for name in ("fr", "judge_fr", "mnac", "cd"):
        assert described[name].columns[:4] == (
            ("run_id", "VARCHAR"),
            ("method", "VARCHAR"),
            ("value", "DOUBLE"),
            ("n", "BIGINT"),
        )


def test_a_fact_without_shards_has_the_types_of_one_with_shards(tmp_path):
    def types():
        return {
            view.name: {column: type_ for column, type_ in view.columns if not WIDE.match(column)} for view in views(tmp_path)
        }

    empty = types()
    write_run(tmp_path, "r1", {"smile": 0.3}, n=4)
    assert types() == empty


def test_runs_is_the_last_event_of_each_run_and_facts_runs_all_of_them(tmp_path):
    write_run(tmp_path, "007", {"smile": 0.3}, n=4)
    write_shard(tmp_path, "runs", "r2", "started", run_rows(status="started", finished=None))
    rows = query(tmp_path, "select run_id, status, explained from runs order by run_id").to_pylist()
    assert rows == [
        {"run_id": "007", "status": "finished", "explained": 4},  # a run id stays text
        {"run_id": "r2", "status": "started", "explained": None},
    ]
    assert query(tmp_path, "select run_id from facts.runs").num_rows == 3


def test_runs_with_different_attributes_live_in_one_warehouse(tmp_path):
    write_attributes(tmp_path, "r1", glasses=0.6, hat=0.4)
    write_attributes(tmp_path, "r2", glasses=0.6, stripes=0.7)
    rows = query(tmp_path, "select distinct run_id, c_glasses, c_hat, c_stripes from attributes order by run_id")
    assert rows.to_pylist() == [
        {"run_id": "r1", "c_glasses": 1, "c_hat": 0, "c_stripes": None},
        {"run_id": "r2", "c_glasses": 1, "c_hat": None, "c_stripes": 1},
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "drop view cd",
        "copy runs to 'runs.csv'",
        "attach 'other.duckdb'",
        "insert into runs select * from runs",
        "create table mine (a int)",
        "delete from runs",
        "pragma version",
        "pragma database_list",
        "set threads = 1",
        "install httpfs",
        "load httpfs",
        "call pragma_version()",
        "select 1; select 2",
        "select 1; drop view cd",
        "-- a comment\ndrop view cd",
        "export database 'out'",
        "import database 'out'",
        "",
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('/etc/passwd')",
        "from read_blob('/proc/self/environ')",
        "from '/etc/passwd.csv'",
        "select * from glob('/etc/*')",
        "select (select content from read_text('/etc/passwd'))",
        "from read_parquet('https://example.com/x.parquet')",
    ],
)
def test_what_is_not_one_question_over_the_warehouse_is_refused(tmp_path, monkeypatch, sql):
    monkeypatch.chdir(tmp_path)
    write_attributes(tmp_path, "r1", hat=0.6)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ReadOnlyError, match="the warehouse is read-only; query it with one SELECT"):
        query(tmp_path, sql)
    assert sorted(tmp_path.rglob("*")) == before


WRITES = [
    "explain analyze create table mine as select 1",
    "explain analyze copy (select 1) to 'facts/mine.parquet'",
    "explain select 1; drop view cd",
    "/* /* */ explain select 1 -- */ explain analyze create table mine as select 1",
    "explain pragma version",
    "create table mine as pivot fr on method using sum(value)",
    "create table mine as pivot fr on method using sum(value); select 1",
    "create type mine as enum ('a'); pivot fr on method using sum(value)",
    "pivot fr on method using sum(value); create type mine as enum ('a')",
    "pivot fr on method using sum(value); select 2",
    "copy (pivot fr on method using sum(value)) to 'facts/mine.parquet'",
]
READS = [
    "explain from range(3)",
    "EXPLAIN (ANALYZE, FORMAT JSON) select 1;",
    "explain analyze with a as (select 1) from a",
    "pivot (select 1 as k, 2 as v) on k using sum(v);",
    "pivot (select 1 as k, 2 as v) on k in (1, 2) using sum(v)",
    "from (pivot (select 1 as k, 2 as v) on k using sum(v))",
    "show tables",
]


def test_what_explain_explains_and_pivot_makes_only_reads():
    con = duckdb.connect(":memory:")
    for sql in WRITES:
        with pytest.raises(ReadOnlyError):
            refuse_writes(con, sql)
    for sql in READS:
        refuse_writes(con, sql)
        assert con.execute(sql).fetchall() or sql == "show tables"


def test_files_beside_the_facts_are_out_of_reach(tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    write_attributes(tmp_path, "r1", hat=0.6)
    for path in (tmp_path / "secret.csv", tmp_path / "facts" / ".." / "secret.csv"):
        with pytest.raises(ReadOnlyError, match=r"secret\.csv"):
            query(tmp_path, f"from read_csv('{path}')")


@pytest.mark.parametrize(
    "sql", ["from runs", "with a as (select 1 as b) select b from a", "describe cd", "summarize fr", "select ';'"]
)
def test_questions_in_every_form_are_answered(tmp_path, sql):
    assert isinstance(query(tmp_path, sql), pa.Table)


def test_sums_and_counts_are_plain_integers_unless_they_do_not_fit(tmp_path):
    answer = query(
        tmp_path, "select sum(x) as total, count_if(x > 1) as some, sum(x) * 9000000000000000000 as large from range(4) t(x)"
    )
    assert [field.type for field in answer.schema] == [pa.int64(), pa.int64(), pa.decimal128(38, 0)]
    assert answer.to_pylist() == [{"total": 6, "some": 2, "large": 54000000000000000000}]


def test_wrong_sql_is_told_in_the_words_of_duckdb(tmp_path):
    with pytest.raises(duckdb.BinderException, match="colour"):
        query(tmp_path, "select colour from runs")
    with pytest.raises(duckdb.ParserException, match="syntax error"):
        query(tmp_path, "selec 1")


@pytest.mark.parametrize("name", ["it's [1] *?", "ünder ground", '"quoted"'])
def test_a_warehouse_may_lie_in_a_folder_of_any_name(tmp_path, name):
    write_attributes(tmp_path / name, "r1", hat=0.6)
    assert query(tmp_path / name, "select c_hat from attributes")["c_hat"].to_pylist() == [1, 1]


@pytest.mark.parametrize("name", ['say "hat"', "<script>alert(1)</script>", "it's", "d_p_c", "50% off; drop view cd", "ä b"])
def test_attributes_may_have_any_name(tmp_path, name):
    write_run(tmp_path, "r1", {"smile": 0.2, name: 0.2}, n=24)
    assert query(tmp_path, "select attribute from ranked_attributes")["attribute"].to_pylist() == [name]
    assert query(tmp_path, "select metric from scorecard where metric = 'cd' and value > 0").num_rows == 1


def test_a_truncated_file_among_the_facts_keeps_its_run_out_of_what_would_read_it(tmp_path):
    write_run(tmp_path, "r1", {"smile": 0.3}, n=4)
    shard = write_attributes(tmp_path, "r2", smile=0.6)
    shard.path.write_bytes(shard.path.read_bytes()[:-10])
    assert query(tmp_path, "select distinct run_id from attributes")["run_id"].to_pylist() == ["r1"]
    with pytest.raises(DamagedRun, match=r"attributes/run_id=r2/0.parquet \(cut short\).*run its audit again"):
        query(tmp_path, "from attributes where run_id = $run", {"run": "r2"})
    assert query(tmp_path, "from runs").num_rows == 1


def test_half_written_and_hidden_files_are_not_seen(tmp_path):
    shard = write_attributes(tmp_path, "r1", hat=0.6)
    half = shard.path.read_bytes()[:100]
    (tmp_path / "tmp").mkdir(exist_ok=True)
    (tmp_path / "tmp" / "half.parquet").write_bytes(half)
    (shard.path.parent / ".half.parquet").write_bytes(half)
    assert query(tmp_path, "from attributes").num_rows == 2


WRITER = """
import sys
from itertools import count
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from facts import image_ids, prediction_rows
from warehouse.facts.shards import write_shard
root = Path(sys.argv[1])
for key in count():
    if (root / "enough").exists():
        break
    ids = image_ids(5, seed=key)
    write_shard(root, "predictions", "r1", f"{key:05}", prediction_rows(ids, ["smile"] * 5))
"""


def test_questions_are_answered_while_another_process_writes(tmp_path):
    places = {"PYTHONPATH": f"{Path(__file__).parent}:{Path(warehouse.__file__).parents[1]}"}
    seen: list[int] = []
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], env=places) as writer:
        while writer.poll() is None and len(set(seen)) < 4:
            seen += query(tmp_path, "select count(*) as n from predictions")["n"].to_pylist()
        (tmp_path / "enough").touch()
    seen += query(tmp_path, "select count(*) as n from predictions")["n"].to_pylist()
    assert writer.returncode == 0
    assert seen == sorted(seen)
    assert all(n % 5 == 0 for n in seen)
    assert seen[-1] == 5 * len(list(tmp_path.glob("facts/predictions/**/*.parquet"))) > 0
    assert len(set(seen)) > 3


def test_a_lens_sees_the_facts_that_were_there_when_it_was_opened(tmp_path):
    write_shard(tmp_path, "predictions", "r1", "0", prediction_rows(IDS, ["smile"] * 2))
    with open_warehouse(tmp_path) as con:
        write_shard(tmp_path, "predictions", "r2", "0", prediction_rows(IDS, ["smile"] * 2))
        assert con.sql("from predictions").fetchall() == con.cursor().sql("from predictions").fetchall()
        assert len(con.sql("from predictions").fetchall()) == 2
    assert query(tmp_path, "from predictions").num_rows == 4


def test_the_time_zone_is_that_of_the_facts_not_of_the_machine(tmp_path):
    write_shard(tmp_path, "runs", "r1", "started", run_rows())
    assert query(tmp_path, "select started::varchar as t from runs")["t"].to_pylist() == ["2025-01-01 00:00:00+00"]


def test_a_lens_sees_every_file_that_came_went_or_changed_since_the_last_one(tmp_path):
    counted = "select count(*) as n, max(q_hat) as q from attributes"

    def seen():
        (row,) = query(tmp_path, counted).to_pylist() if (tmp_path / "facts").exists() else [{"n": 0, "q": None}]
        return row["n"], row["q"]

    assert seen() == (0, None)
    shard = write_attributes(tmp_path, "r1", hat=0.5)
    assert seen() == (2, 0.5)
    write_attributes(tmp_path, "r2", hat=0.7)
    assert seen() == (4, pytest.approx(0.7))
    shard.path.unlink()
    assert seen() == (2, pytest.approx(0.7))
    other = write_attributes(tmp_path / "elsewhere", "r1", hat=0.9)
    shard.path.write_bytes(other.path.read_bytes())  # another file under the old one's name
    assert seen() == (4, pytest.approx(0.9))


@pytest.mark.long
def test_many_readers_at_once_get_what_they_ask_for(tmp_path):
    write_run(tmp_path, "r1", {"hat": 0.3}, n=8)
    asked = [f"select '{name}' as name, count(*) as n from {name}" for name in VIEWS]
    query(tmp_path, "from runs")
    write_shard(tmp_path, "runs", "r2", "started", run_rows(status="started", finished=None))
    with ThreadPoolExecutor(8) as readers:  # of a lens that none of them has laid out yet
        together = list(readers.map(lambda sql: query(tmp_path, sql).to_pylist(), asked))
    assert [rows[0]["name"] for rows in together] == list(VIEWS)
    assert together == [query(tmp_path, sql).to_pylist() for sql in asked]
