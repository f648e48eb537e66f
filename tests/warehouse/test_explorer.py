"""The explorer in a real browser and over HTTP: looks, sorts, filters, keeps reviews, refuses everything else."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import chromium_page
from portrait_run import write_portrait_run
from served import serving
from starlette.testclient import TestClient

from cfx.errors import UserError
from tasks.reading.serve import is_loopback
from warehouse.explorer.app import explorer
from warehouse.explorer.names import Marks, give_name
from warehouse.explorer.reviews import review
from warehouse.lens.connect import open_warehouse, query
from warehouse.report.queries import evidence
from warehouse.report.render import report_html

NAMES = {"glasses": "<script>document.title='owned'</script>"}

HOSTS = ("audits.example", "127.0.0.1", "elsewhere.example")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, "run", n=40, size=16, names=NAMES, file_name="<img src=x onerror=alert(1)>{}.png")
    return root


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    """A real server of its own, ended with the tests."""
    with serving(root) as at:
        yield at


def status(request: urllib.request.Request | str) -> int:
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.browser
def test_a_person_looks_filters_and_reviews(address: str, root: Path) -> None:
    with chromium_page() as page:
        page.resize(1280)
        page.open(f"{address}/")
        assert "run" in page.evaluate("document.querySelector('tbody th').innerText")
        page.open(f"{address}/runs/run/explanations?sort=d_smile&down=1&outcome=flipped")
        shown = page.evaluate("document.querySelectorAll('.shot').length")
        [flipped] = query(root, "select count(*) as n from outcomes where flipped")["n"].to_pylist()
        assert shown == min(36, flipped) and page.evaluate("!document.querySelector('.shots').innerText.includes('not flipped')")
        assert page.evaluate("[...document.querySelectorAll('img.under')].every(image => image.naturalWidth > 0 && image.alt)")
        page.open(page.evaluate("document.querySelector('.shot').href"))
        assert page.evaluate("document.images.length") >= 4 and NAMES["glasses"] in page.evaluate("document.body.innerText")
        page.evaluate("document.querySelector('[name=reviewer]').value = 'Ada'")
        page.evaluate("document.querySelector('[name=note]').value = '<b>a drawing</b>'")
        page.evaluate("document.querySelector('[name=mark]').value = 'out of distribution'")
        page.submit("document.querySelector('form.review').submit()")
        assert "<b>a drawing</b>" in page.evaluate("document.getElementById('reviews').innerText")
        assert page.complaints == [] and not page.evaluate("document.title").startswith("owned")
        assert page.requests and all(url.startswith((address, "data:")) for url in page.requests)
        page.resize(390)
        page.open(f"{address}/runs/run")
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    [kept] = query(root, "from marks").to_pylist()
    assert (kept["reviewer"], kept["mark"], kept["note"]) == ("Ada", "out of distribution", "<b>a drawing</b>")


def test_nothing_but_a_review_or_a_name_can_be_written(address: str, root: Path) -> None:
    before = sorted(root.rglob("*"))
    for method in ("PUT", "DELETE", "PATCH", "POST"):
        for path in ("/", "/runs/run", "/runs/run/report"):
            assert status(urllib.request.Request(address + path, method=method, data=b"x=1")) == 405
    form = urllib.parse.urlencode({"reviewer": "Eve", "mark": "rejected", "attribute": "smile"}).encode()
    for kept in ("reviews", "names"):
        assert status(urllib.request.Request(f"{address}/runs/run/{kept}", data=form)) == 403  # another site has no token
    assert status(f"{address}/runs/run/explanations?sort=p_none%22%3B") == 400
    assert status(f"{address}/runs/nobody") == 400
    assert status(f"{address}/runs/run/explanations?page={'9' * 99}") == 200  # an empty page
    assert sorted(root.rglob("*")) == before


def test_another_name_for_this_machine_is_refused(address: str) -> None:
    # A page elsewhere could otherwise point a name of its own at 127.0.0.1 and read the pictures.
    assert status(urllib.request.Request(f"{address}/", headers={"Host": "audits.example"})) == 400


def test_an_exposed_explorer_answers_to_the_names_that_it_is_given_alone(root: Path) -> None:
    with serving(root, "--expose", "--name", "audits.example") as at:
        found = {host: status(urllib.request.Request(f"{at}/style.css", headers={"Host": host})) for host in HOSTS}
    assert found == {"audits.example": 200, "127.0.0.1": 400, "elsewhere.example": 400}


def test_a_host_that_others_can_reach_is_refused_unless_told(root: Path) -> None:
    command = [str(Path(sys.executable).with_name("cfx")), "serve", "-w", str(root), "--host", "0.0.0.0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2 and "--expose" in ended.stderr
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "10.0.0.1", "example.org")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_a_name_that_cannot_be_is_refused(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "run", n=40, size=16, properties={"warmth": 0.3})
    has, lacks = (query(tmp_path, "select image_id from images order by 1")["image_id"].to_pylist()[i : i + 4] for i in (0, 4))
    warmth, fine = ("property", "warmth"), Marks(has, lacks)
    for claim, name, marks, words in (
        (("property", "smell"), "a smell", fine, "no property 'smell' to name"),
        (("attribute", "glasses"), "spectacles", fine, "no attribute 'glasses' to name"),
        (warmth, "glasses", fine, "'glasses' is an attribute of this run already"),
        (warmth, "  ", fine, "1 to 60 characters"),
        (warmth, "x" * 61, fine, "1 to 60 characters"),
        (warmth, "lamp", Marks(has, has), "marked as having it and as not having it"),
        (warmth, "lamp", Marks([*has, "nobody"], lacks), "no image 'nobody'"),
    ):
        with pytest.raises(UserError, match=words):
            give_name(tmp_path, "run", "Ada", claim, name, marks)
    assert query(tmp_path, "from names").num_rows == 0


@pytest.mark.long
def test_the_last_name_counts_and_not_a_thing_takes_it_back(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "run", n=24, size=16, properties={"warmth": 0.3}, places={0: 0.3}, pasted=0)
    called = "select given_name from findings where name = 'warmth'"
    for name in ("a lamp", " warm   light ", None):
        give_name(tmp_path, "run", "Ada", ("property", "warmth"), name, Marks([], []))
        shown = None if name is None else " ".join(name.split())
        assert query(tmp_path, called)["given_name"].to_pylist() == [shown]
        assert ("“warm light”" in report_html(tmp_path, "run")) is (shown == "warm light")
    assert query(tmp_path, "from names").num_rows == 3


def test_cards_show_who_carries_a_place_and_keep_what_is_ticked(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "run", n=40, size=16, places={0: 0.3}, pasted=0)
    with open_warehouse(tmp_path) as lens:
        carriers = [row for row in evidence(lens, "carriers", "run").rows if row["kind"] == "place"]
    most = {row["image_id"]: row["value"] for row in carriers if row["most"]}
    assert len(most) == 12 and all(row["value"] <= min(most.values()) for row in carriers if not row["most"])
    client = TestClient(explorer(tmp_path, ("testserver",)), base_url="http://testserver")
    page = client.get("/runs/run").text
    (token, *_) = re.findall(r'name="token" value="([^"]+)"', page)
    shown = [row["image_id"] for row in carriers]
    form = {"token": token, "kind": "place", "claim": "top left", "thing": "1", "name": "a stamp", "reviewer": "Ada"}
    kept = client.post("/runs/run/names", data=form | {"shown": shown, "has": shown[:5]}, follow_redirects=False)
    assert kept.status_code == 303
    (row,) = query(tmp_path, "from names").to_pylist()
    assert (row["name"], row["has"], row["lacks"]) == ("a stamp", shown[:5], shown[5:])
    assert client.post("/runs/run/names", data=form | {"token": "guessed"}).status_code == 403
    assert "“a stamp”" in client.get("/runs/run").text


def test_a_review_that_cannot_be_is_refused(root: Path) -> None:
    for told, words in (
        ({"mark": "maybe", "attribute": "smile"}, "mark: 'maybe'"),
        ({"mark": "rejected", "attribute": "moustache"}, "no attribute 'moustache'"),
        ({"mark": "rejected", "explanation": ("nobody", "dime", 0)}, "no such explanation"),
        ({"mark": "rejected", "attribute": "smile", "note": "x" * 3000}, "3000 characters"),
    ):
        with pytest.raises(ValueError, match=words):
            review(root, "run", "Ada", **told)


def test_the_last_mark_of_a_reviewer_counts_and_agreement_is_told(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "run", n=8, size=16)
    for reviewer, mark in (("Ada", "rejected"), ("Ada", "confirmed"), ("Bob", "confirmed"), ("Cy", "rejected")):
        review(tmp_path, "run", reviewer, mark, attribute="glasses")
    assert query(tmp_path, "select reviewer, mark from marks order by reviewer")["mark"].to_pylist() == [
        "confirmed", "confirmed", "rejected",
    ]  # fmt: skip
    [row] = query(tmp_path, "from agreement").to_pylist()
    assert (row["judged"], row["pairs"], row["value"]) == (1, 3, pytest.approx(1 / 3))


def test_a_failed_run_says_why_in_the_list_and_on_its_page(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "run", n=8, size=16, status="failed", reason="the endpoint <b>refused</b> 12 calls")
    client = TestClient(explorer(tmp_path, ("testserver",)))
    for page in ("/", "/runs/run"):
        assert "the endpoint &lt;b&gt;refused&lt;/b&gt; 12 calls" in client.get(page).text
