"""A query lays out the views that it needs: found by DuckDB's parser, not by the words in the text."""

import pytest
from facts import run_rows

from warehouse.facts.shards import write_shard
from warehouse.lens.catalog import NAMES, VIEWS
from warehouse.lens.connect import open_warehouse, query
from warehouse.lens.needed_views import needed_views

EVERYTHING = set(VIEWS)
CLAIMS = set(needed_views("from claims"))


@pytest.mark.parametrize(
    ("sql", "views"),
    [
        ("select 1", set()),
        ("select count(*) from predictions", set()),
        ("from facts.runs", set()),
        ("from FR where run_id = 'r1'", {"fr"}),
        ('from main."fr"', {"fr"}),
        ("select widened(3) from runs", {"runs", "resamples", "buckets", "attribute_sums", "admitted"}),
        ("describe fr", {"fr"}),
        ("select (select count(*) from fr) from images", {"fr"}),
        ("select 'gate' as verdicts from images -- fr", set()),
        ("select fr.a from (select 1 as a) as fr", set()),
        ("from nothing", EVERYTHING),
        ("show tables", EVERYTHING),
        ("from information_schema.tables", EVERYTHING),
        ("from duckdb_views()", EVERYTHING),
        ("from query('from fr')", EVERYTHING),
        ("pivot fr on metric", EVERYTHING),  # the parser writes out no PIVOT statement
        ("selec", EVERYTHING),
    ],
)
def test_a_query_needs_the_views_that_it_reads(sql, views):
    assert set(needed_views(sql)) == views


@pytest.mark.parametrize(
    ("sql", "views"),
    [
        ("with claims as (select 1) from claims", set()),
        ("with CLAIMS as (select 1) from Claims", set()),
        ("with claims as (from claims) from claims", CLAIMS),  # inside itself the name is still the view's
        ("with a as (from claims), claims as (select 1) from a", CLAIMS),
        ("with claims as (select 1), a as (from claims) from a", set()),
        ("with claims as (select 1) from main.claims", CLAIMS),
        ("select * from (with claims as (select 1) from claims), claims", CLAIMS),  # seen only where it is written
        ("with claims as (select 1) select (select count(*) from claims)", set()),
        ("with recursive fr as (select 1 as n union all select n + 1 from fr where n < 3) from fr", set()),
        ("with claims as (select 1) from claims union all from claims", set()),
    ],
)
def test_a_cte_hides_the_view_of_its_name_where_it_is_in_sight(sql, views):
    assert set(needed_views(sql)) == views


@pytest.mark.parametrize(
    ("sql", "views"),
    [
        ("select count(*) from predictions", {"lens.predictions", "runs"}),
        ("from fr", {"fr"}),
        ("from main.predictions", set()),
        ("from lens.accuracy", {"lens.accuracy", "accuracy", "runs"}),
        ("with predictions as (from images) from predictions", set()),
        ("from nothing", set()),  # `ask` knows every name itself
        ("show tables", {*VIEWS, *NAMES}),
    ],
)
def test_a_persons_query_needs_the_views_that_its_names_mean(sql, views):
    assert set(needed_views(sql, lens=True)) == views


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_can_be_asked_with_the_views_that_it_needs_and_no_others(tmp_path, name):
    with open_warehouse(tmp_path, sql=f"from {name}") as lens:
        lens.execute(f"from {name} limit 0")
        there = {row[0] for row in lens.execute("select view_name from duckdb_views() where schema_name = 'main'").fetchall()}
    assert there & EVERYTHING == set(needed_views(f"from {name}"))


def test_a_cte_with_a_views_name_answers_with_its_own_rows(tmp_path):
    write_shard(tmp_path, "runs", "r1", "started", run_rows())
    sql = "with verdicts as (select run_id, 7 as seven from runs) from verdicts"
    assert query(tmp_path, sql).to_pylist() == [{"run_id": "r1", "seven": 7}]
