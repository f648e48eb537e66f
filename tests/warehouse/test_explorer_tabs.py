"""The explorer's tabs over HTTP: what they say, what they refuse, and what a page costs beside other runs."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pyarrow.parquet as pq
import pytest
from facts import write_run
from markupsafe import escape
from portrait_run import write_portrait_run
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.testclient import TestClient

from cfx.errors import UserError
from tasks.reading.serve import listening
from warehouse.explorer import plot, site
from warehouse.explorer.app import explorer
from warehouse.explorer.groups_page import attributes_of
from warehouse.explorer.lenses import Lenses
from warehouse.explorer.reviews import review
from warehouse.lens.connect import open_warehouse, query
from warehouse.lens.fetch import fetch
from warehouse.lens.gate import set_policy
from warehouse.lens.query_limits import Limits
from warehouse.lens.query_process import answer
from warehouse.report.verdict import read_verdict

POLICY: dict[str, object] = {
    "base": None, "forbidden": None, "maximum_effect": 0.15, "minimum_images": 4, "minimum_flip_rate": 0.8,
    "minimum_judge_flip_rate": None, "maximum_rise": 0.1, "maximum_cd_rise": None, "explained": None, "protected": None,
    "maximum_error_gap": None,
}  # fmt: skip
ANYTHING = ("/", "/style.css", "/runs/run/report", "/runs/nobody", "/nowhere", "/sql.xml?sql=from+runs")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, "run", n=24, size=16)
    write_run(root, "small", {"smile": 0.2, "hat": 0.1}, n=24)
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    with TestClient(explorer(root, ("testserver",))) as client:
        yield client


def test_the_list_has_the_audits_of_a_name_and_what_each_found(client: TestClient, root: Path) -> None:
    every = client.get("/").text
    assert "/runs/run" in every and "/runs/small" in every
    one = client.get("/", params={"audit": "synthetic"}).text
    assert "/runs/small" in one and "/runs/run" not in one
    cast(Starlette, client.app).state.summaries.of(["run", "small"], 60)
    assert escape(read_verdict(root, "run").headline) in client.get("/").text
    assert "There is no audit of this name" in client.get("/", params={"audit": "nobody"}).text


@pytest.mark.long
def test_a_lens_of_a_run_stays_open_for_reviews_and_opens_again_for_facts(tmp_path: Path) -> None:
    write_run(tmp_path, "one", {"smile": 0.2, "hat": 0.1}, n=8)
    write_run(tmp_path, "two", {"smile": 0.2, "hat": 0.1}, n=8)
    lenses = Lenses(tmp_path)
    lenses.of("one").execute("create table main.mine as select 1")  # there for as long as this lens is
    review(tmp_path, "one", "Ada", "confirmed", attribute="hat")
    assert fetch(lenses.of("one"), "select reviewer, (select count(*) from mine) as n from marks") == [
        {"reviewer": "Ada", "n": 1}
    ]
    review(tmp_path, "one", "Bob", "rejected", attribute="hat")
    assert [row["reviewer"] for row in fetch(lenses.of("one"), "from marks, mine order by reviewer")] == ["Ada", "Bob"]
    assert fetch(lenses.of("one"), "select distinct run_id from explanations") == [{"run_id": "one"}]
    assert fetch(lenses.of("one"), "from attribute_tests") == fetch(
        open_warehouse(tmp_path), "from attribute_tests where run_id = 'one'"
    )
    set_policy(tmp_path, "one", POLICY)
    assert "mine" not in {row["table_name"] for row in fetch(lenses.of("one"), "select table_name from duckdb_tables()")}
    with pytest.raises(UserError, match="there is no run 'three'"):
        lenses.of("three")


@pytest.mark.parametrize("path", ANYTHING)
def test_every_answer_lets_the_browser_run_and_fetch_nothing_of_others(client: TestClient, path: str) -> None:
    found = client.get(path).headers
    policy = found["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy and "'unsafe-eval'" not in policy
    assert ("script-src 'self';" in policy) is ("report" not in path) and "script-src 'unsafe" not in policy
    assert found["x-content-type-options"] == "nosniff"


@pytest.mark.long
def test_sql_is_answered_drawn_and_saved(client: TestClient, root: Path) -> None:
    sql = "select attribute, effect, high from verdicts where run_id = $run order by attribute"
    page = client.get("/runs/run/sql", params={"sql": sql, "chart": "line", "x": "attribute", "y": "effect"}).text
    saved = client.get("/runs/run/sql.parquet", params={"sql": sql})
    assert saved.headers["content-disposition"] == 'attachment; filename="answer.parquet"'
    expected = query(root, sql, {"run": "run"})
    assert pq.read_table(io.BytesIO(saved.content)).to_pylist() == expected.to_pylist()
    assert f"{expected.num_rows} rows" in page and page.count('class="point"') == expected.num_rows


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("drop table runs", "the warehouse is read-only; query it with one SELECT"),
        ("set threads = 1", "this is SET"),
        ("from read_text('/etc/hostname')", "Cannot access file"),
        ("select * from rums", "did you mean runs?"),
    ],
)
def test_sql_that_writes_or_reads_elsewhere_is_refused_in_the_words_of_the_command_line(
    client: TestClient, root: Path, sql: str, words: str
) -> None:
    before = sorted((root / "facts").rglob("*"))
    page = client.get("/sql", params={"sql": sql})
    assert page.status_code == 400 and words.replace("'", "&#39;") in page.text and sql.split("'")[0] in page.text
    assert sorted((root / "facts").rglob("*")) == before


def test_an_endless_query_is_ended_and_a_long_answer_is_cut(root: Path) -> None:
    with pytest.raises(UserError, match="timed out after 0.5 s"):
        answer(root, "select sum(a.range * b.range) from range(10000000) a, range(10000000) b", {}, Limits(0.5), 1)
    found = answer(root, "select range from range(1000)", most=10)
    assert (found.rows.num_rows, found.more) == (10, True)


def test_groups_lead_to_their_images_and_the_widest_gap_is_first(client: TestClient) -> None:
    page = client.get("/runs/run/groups").text
    assert "/runs/run/explanations?label=smiling&amp;source=smiling" in page
    rows = [
        {"attribute": name, "label": "a", "present": present, "known_by": "annotation", "reported": True, "value": value}
        for name, present, value in (("hat", True, 0.9), ("hat", False, 0.8), ("beard", True, 0.2), ("beard", False, 0.9))
    ]
    assert [(each.name, round(each.gap, 9)) for each in attributes_of(rows)] == [("beard", 0.7), ("hat", 0.1)]


def test_findings_lead_to_the_images_in_which_an_attribute_changed(client: TestClient, root: Path) -> None:
    page = client.get("/runs/run").text
    [row] = query(root, "select count_if(c_glasses > 0) as n from attributes where run_id = 'run' and arm = 'guided'").to_pylist()
    assert f'/runs/run/explanations?changed=added%3Aglasses">added in {row["n"]}<' in page
    shown = client.get("/runs/run/explanations", params={"changed": "added:glasses"}).text
    assert shown.count('class="card') == row["n"] or f">{row['n']}<" in shown


def test_audits_stand_side_by_side_and_an_unknown_one_is_named(client: TestClient) -> None:
    page = client.get("/compare", params={"run": ["run", "small"]}).text
    assert page.count('scope="col"><a href="/runs/') == 2 and "Release check" in page
    assert "there is no finished run &#39;nobody&#39;" in client.get("/compare", params={"run": ["run", "nobody"]}).text
    assert "Tick two audits" in client.get("/runs/run/compare").text


@pytest.mark.parametrize("run", ["x" * 300, "*", "[a-z]*", "%00", "run%20"])
@pytest.mark.parametrize("tab", ["", "/groups", "/review", "/trend"])
def test_a_run_that_is_none_is_named_whatever_it_is_called(client: TestClient, run: str, tab: str) -> None:
    assert client.get(f"/runs/{run}{tab}").status_code in (400, 404)


def test_the_first_night_has_nothing_to_be_compared_with(client: TestClient) -> None:
    assert "nothing to compare it with yet" in client.get("/runs/run/trend").text


def test_a_line_goes_from_left_to_right_and_higher_is_nearer_the_top() -> None:
    chart = plot.line([plot.Measured("a", 0.0), plot.Measured("b", 1.0, 0.5, 1.5, alarm=True)], [10.0, 30.0])
    first, last = chart.points
    assert last.low is not None and last.high is not None
    assert (first.x, last.x) == (2, 98) and last.y < first.y and last.high < last.y < last.low and last.alarm
    below, above = plot.bars([("down", -1.0), ("up", 1.0)])
    assert below.x + below.width == pytest.approx(above.x) and below.width == pytest.approx(above.width)


def test_a_form_that_trickles_in_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "SLOWEST", 0.05)

    async def trickle() -> dict[str, object]:
        await asyncio.sleep(0.03)
        return {"type": "http.request", "body": b"x", "more_body": True}

    slow = Request({"type": "http", "method": "POST", "headers": []}, trickle)
    with pytest.raises(UserError, match=r"had not arrived after 0.05 s"):
        asyncio.run(site.Site(root).form(slow))


def test_an_address_that_cannot_be_served_is_refused_before_it_is_printed(root: Path) -> None:
    with listening(port=0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1:{port} cannot be listened on"):
            listening(port=port)
    command = [str(Path(sys.executable).with_name("cfx")), "serve", "-w", str(root), "--host", "0.0.0.0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (2, "") and "--expose" in ended.stderr
