"""The explorer's facets: counted as SQL counts them, everything in the address, and an address that cannot be says why."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import facts
import pytest
from portrait_run import write_portrait_run
from starlette.testclient import TestClient

from warehouse.explorer.app import explorer
from warehouse.explorer.facets import facets
from warehouse.explorer.reviews import review
from warehouse.explorer.run_table import RunTable, RunTables
from warehouse.explorer.selection import Selection, selection_of
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import open_warehouse, query

GALLERY = "/runs/run/explanations"
JOINED = """
outcomes join attributes using (run_id, image_id, method, seed)
    left join (select run_id, image_id, method, seed, mark from marks) m using (run_id, image_id, method, seed)
where arm = 'guided'
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, "run", n=40, size=16)
    rows = query(root, "select image_id, method, seed from outcomes order by image_id limit 4").to_pylist()
    with open_warehouse(root, sql="from runs; from explanations") as lens:
        for row, mark in zip(rows, ("confirmed", "rejected", "rejected", "out of distribution"), strict=True):
            review(root, "run", "Ada", mark, explanation=(row["image_id"], row["method"], row["seed"]), lens=lens)
    return root


@pytest.fixture(scope="module")
def table(root: Path) -> RunTable:
    return RunTables(root).of("run")


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    with TestClient(explorer(root, ("testserver",))) as client:
        yield client


def chosen(table: RunTable, **address: str | list[str]) -> Selection:
    pairs = [(name, value) for name, values in address.items() for value in ([values] if isinstance(values, str) else values)]
    return selection_of([(name.replace("__", "."), value) for name, value in pairs], table)


def counted(root: Path, condition: str) -> int:
    """What SQL over the views counts, without any of the explorer's own tables."""
    return int(
        query(root, f"select count(distinct (image_id, method, seed)) as n from {JOINED} and ({condition})")["n"][0].as_py()
    )


SELECTIONS: tuple[tuple[dict[str, str | list[str]], str], ...] = (
    ({}, "true"),
    ({"outcome": "flipped", "changed": "added:glasses"}, "flipped and c_glasses = 1"),
    ({"judge": "disagrees"}, "not judge_flipped"),
    ({"changed": ["added:glasses", "removed:glasses"], "has": "without:hat"}, "c_glasses <> 0 and p_hat <= .5"),
    ({"label": "smiling", "source": "smiling", "target": "neutral"}, "label = 'smiling' and source = 'smiling'"),
    ({"min__d_glasses": "0.2", "max__l1": "0.09"}, "d_glasses >= .2 and l1 <= .09"),
    ({"reviewed": ["rejected", "confirmed"]}, "mark in ('rejected', 'confirmed')"),
    ({"reviewed": "not reviewed", "answer": "right"}, "mark is null and correct"),
    ({"file": "0001"}, "contains(path, '0001')"),
    ({"changed": "nothing"}, "c_smile = 0 and c_glasses = 0 and c_hat = 0 and c_rosy_cheeks = 0"),
)


@pytest.mark.parametrize(("address", "condition"), SELECTIONS)
def test_a_selection_is_what_sql_selects(
    root: Path, table: RunTable, address: dict[str, str | list[str]], condition: str
) -> None:
    selection = chosen(table, **address)
    assert selection.problems == () and selection.count(table) == counted(root, condition)
    rows = selection.rows(table, 100)
    assert [row["l1"] for row in rows] == sorted(row["l1"] for row in rows) and len(rows) == selection.count(table)


def test_counts_are_given_what_is_chosen_in_the_other_facets(root: Path, table: RunTable) -> None:
    found = facets(table, chosen(table, outcome="flipped", changed="added:glasses", min__l1="0.02"))
    both = "c_glasses = 1 and l1 >= .02"
    values = {facet.title: {value.label: value.n for value in facet.values} for facet in found.first}
    assert values["Outcome"] == {  # the facet itself does not count: it shows what another click would bring
        "flipped": counted(root, f"flipped and {both}"), "not flipped": counted(root, f"not flipped and {both}"),
    }  # fmt: skip
    assert values["Judge"]["disagrees"] == counted(root, f"flipped and not judge_flipped and {both}")
    assert values["Reviewed"]["rejected"] == counted(root, f"flipped and mark = 'rejected' and {both}")
    rows = {row.attribute: row for row in found.attributes}
    assert rows["glasses"].added.on and rows["glasses"].added.n == counted(root, "flipped and c_glasses = 1 and l1 >= .02")
    assert rows["hat"].before.n == counted(root, f"flipped and p_hat > .5 and {both}")
    assert rows["glasses"].removed.n == counted(root, "flipped and c_glasses = -1 and l1 >= .02")
    matrix = found.pairs[0]
    assert matrix.title == "Label × predicted" and matrix.matrix
    for (label, source), value in matrix.cells.items():
        assert value.n == counted(root, f"flipped and label = '{label}' and source = '{source}' and {both}")
    size = next(one for one in found.histograms if one.name == "l1")
    assert sum(size.all) == 40 and sum(size.here) == counted(root, "flipped and c_glasses = 1")
    width = (size.high - size.low) / len(size.all)
    for place, n in enumerate(size.all[:-1]):
        low, high = size.low + place * width, size.low + (place + 1) * width
        assert n == counted(root, f"l1 >= '{low!r}'::double and l1 < '{high!r}'::double")


def test_the_address_is_the_whole_state(table: RunTable) -> None:
    selection = chosen(
        table, outcome=["flipped", "not flipped"], changed="added:glasses", min__l1="0.02", sort="d_hat", down="1", page="1"
    )
    assert selection_of(selection.fields(), table) == selection
    assert chosen(table).address() == "?"
    without = selection.toggled("outcome", "flipped").without("range:l1")
    assert (without.values["outcome"], without.ranges, without.page) == (("not flipped",), {}, 0)
    assert selection.cleared().fields() == [("sort", "d_hat"), ("down", "1")]


def test_next_leads_through_the_whole_selection_in_its_order(table: RunTable) -> None:
    selection = chosen(table, outcome="flipped", sort="d_glasses", down="1")
    rows = selection.rows(table, 100)
    near = [selection.around(table, row) for row in rows]
    assert [found.place for found in near] == list(range(1, len(rows) + 1)) and near[0].total == len(rows)
    assert [found.after and found.after["image_id"] for found in near] == [*(row["image_id"] for row in rows[1:]), None]
    assert [found.before and found.before["image_id"] for found in near] == [None, *(row["image_id"] for row in rows[:-1])]
    (other, *_) = chosen(table, outcome="not flipped").rows(table, 1)
    outside = selection.around(table, other)
    assert outside.place is None and outside.after and outside.after["image_id"] == rows[0]["image_id"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("min.d_glasses=abc", "d_glasses, at least: 'abc' is not a number; write one with a point, such as 0.5"),
        ("max.d_glasses=0,5", "d_glasses, at most: '0,5' is not a number; write 0.5"),
        ("min.l1=nan", "'nan' is not a number"),
        ("min.l1=0.5&max.l1=0.1", "exchange the two"),
        ("min.path=1", "min.path: there is no such number; there are "),
        ("outcome=perhaps", "outcome: 'perhaps' does not occur in this run; there are flipped, not flipped"),
        ("changed=added:moustache", "'added:moustache' does not occur in this run"),
        ("colour=red", "there is no facet 'colour'; there are outcome, judge"),
        ("sort=p_none%22%3B", "sort: there is no column 'p_none\";'"),
        ("page=-1", "page: '-1' is not the number of a page"),
        ("view=sideways", "view: 'sideways' is none of hover, pairs, difference"),
    ],
)
def test_an_address_that_cannot_be_says_so_and_shows_the_rest(client: TestClient, query: str, words: str) -> None:
    answer = client.get(f"{GALLERY}?{query}")
    assert answer.status_code == 400 and words in html.unescape(answer.text)
    assert "<strong>40</strong> of 40" in answer.text  # left out, not counted as nothing


def test_an_empty_selection_says_which_facet_to_remove(client: TestClient, root: Path) -> None:
    page = html.unescape(client.get(f"{GALLERY}?outcome=not+flipped&min.p_target_cf=0.6").text)
    few = counted(root, "not flipped")
    many = counted(root, "p_target_cf >= .6")
    assert few and many and f"{many} without <em>Outcome</em>" in page and f"{few} without <em>P(target) after</em>" in page
    (there,) = re.findall(rf'<a href="([^"]+)">{many} without', page)
    assert f"<strong>{many}</strong> of 40" in client.get(GALLERY + there).text


def test_chips_take_one_choice_away_and_clear_all_takes_all(client: TestClient) -> None:
    page = client.get(f"{GALLERY}?outcome=flipped&has=with:glasses&min.l1=0.01&sort=l2").text
    chips = re.findall(r'class="chip" href="([^"]+)"', page)
    assert [html.unescape(address) for address in chips] == [
        "?has=with%3Aglasses&min.l1=0.01&sort=l2",
        "?outcome=flipped&min.l1=0.01&sort=l2",
        "?outcome=flipped&has=with%3Aglasses&sort=l2",
    ]
    assert re.findall(r'class="clear" href="([^"]+)"', page) == ["?sort=l2"]


def test_new_facts_and_reviews_are_seen_at_once(tmp_path: Path) -> None:
    facts.write_run(tmp_path, "run", {"smile": 0.3, "target": 0.2}, n=8)
    tables = RunTables(tmp_path)
    assert tables.of("run").total == 8 and tables.of("run") is tables.of("run")
    assert "target" in tables.of("run").attributes  # its p_target is not the classifier's
    (row, *_) = chosen(tables.of("run")).rows(tables.of("run"), 1)
    review(tmp_path, "run", "Ada", "rejected", explanation=(row["image_id"], row["method"], row["seed"]))
    assert chosen(tables.of("run"), reviewed="rejected").count(tables.of("run")) == 1
    review(tmp_path, "run", "Ada", "confirmed", explanation=(row["image_id"], row["method"], row["seed"]))
    assert chosen(tables.of("run"), reviewed="rejected").count(tables.of("run")) == 0
    ids = facts.image_ids(3, seed=9)
    write_shard(tmp_path, "explanations", "run", "later", facts.explanation_rows(ids))
    assert tables.of("run").total == 11


def test_a_run_without_explanations_attributes_judge_or_labels_has_a_gallery(tmp_path: Path) -> None:
    write_shard(tmp_path, "runs", "run", "started", facts.run_rows(status="started", finished=None))
    ids = facts.image_ids(3)
    with TestClient(explorer(tmp_path, ("testserver",))) as client:
        assert "This run has no explanation yet" in client.get(GALLERY).text
        write_shard(tmp_path, "explanations", "run", "00000", facts.explanation_rows(ids, judge_flipped=[None] * 3))
        page = client.get(GALLERY)
        assert page.status_code == 200 and page.text.count('class="shot"') == 3 and "Judge" not in page.text
        assert client.get(f"{GALLERY}/{ids[0]}/dime/0").status_code == 200
        assert client.get(f"{GALLERY}/{ids[0]}/dime/7").status_code == 400
        assert client.get("/runs/nobody/explanations").status_code == 400


def test_pictures_are_the_facts_own_and_leave_no_other_file_readable(client: TestClient, root: Path) -> None:
    (row,) = query(root, "select image_id, png from images order by image_id limit 1").to_pylist()
    answer = client.get(f"/runs/run/pictures/input?image={row['image_id']}&small=1")
    assert answer.content == row["png"] and answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"].startswith("private") and answer.headers["x-content-type-options"] == "nosniff"
    assert client.get(GALLERY).headers["cache-control"] == "no-store"
    for run in ("..", "%2e%2e", "..%2f..%2fetc", "run%2f..%2frun", "nobody"):
        assert client.get(f"/runs/{run}/pictures/input?image={row['image_id']}").status_code in (400, 404)
    for image in ("nobody", "../" * 4 + "etc/passwd", "' or 1=1 --"):
        assert client.get(f"/runs/run/pictures/input?image={quote(image)}").status_code == 404
    assert client.get(f"/runs/run/pictures/passwd?image={row['image_id']}").status_code == 400


def test_thumbnails_false_keeps_every_picture_out(tmp_path: Path) -> None:
    ids = facts.image_ids(2)
    config = json.dumps({"method": {"method": "dime"}, "thumbnails": False})
    write_shard(tmp_path, "runs", "run", "finished", facts.run_rows(config=config))
    write_shard(tmp_path, "images", "run", "00000", facts.image_rows(ids))
    write_shard(tmp_path, "explanations", "run", "00000", facts.explanation_rows(ids))
    with TestClient(explorer(tmp_path, ("testserver",))) as client:
        for page in (GALLERY, f"{GALLERY}/{ids[0]}/dime/0"):
            assert "<img" not in client.get(page).text
        for kind in ("input", "counterfactual", "difference", "mask"):
            assert client.get(f"/runs/run/pictures/{kind}?image={ids[0]}&method=dime&seed=0").status_code == 404
