"""The explorer's tabs in a real browser: reviewed by keys alone and blind, asked in SQL, named, and without barriers."""

from __future__ import annotations

import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from accessibility import barriers
from chromium import Page, chromium_page
from portrait_run import write_portrait_run
from served import serving

from warehouse.explorer.agreement import agreement, by_subject, disagreements
from warehouse.lens.connect import query

MARKS = ("confirmed", "rejected", "out of distribution")
HIDDEN = ("flipped", "The judge", "Probability of", "Ada:")
ASKED = "/sql?" + urllib.parse.urlencode({"sql": "select name, effect from findings", "chart": "bar", "x": "name", "y": "effect"})
TABS = ("explanations", "", "groups", "compare", "trend", "review", "review?who=1")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, "run", n=24, size=16, places={0: 0.3}, pasted=0)
    write_portrait_run(root, "other", n=8, size=16, planted=False)
    return root


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    with serving(root) as at:
        yield at


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with chromium_page() as page:
        yield page


@pytest.fixture
def page(browser: Page, address: str) -> Iterator[Page]:
    """The one browser; afterwards nothing complained, and nothing was asked of others."""
    browser.complaints.clear()
    browser.requests.clear()
    browser.resize(1280)
    yield browser
    assert browser.complaints == []
    assert browser.requests and all(url.startswith((address, "data:")) for url in browser.requests)


def text(page: Page) -> str:
    return str(page.evaluate("document.querySelector('main').innerText"))


def strike(page: Page, key: str) -> None:
    """A key that leads to another page."""
    before = page.loads
    page.press(key)
    page.loaded(before)


def start(page: Page, address: str, reviewer: str, n: int) -> None:
    page.open(f"{address}/runs/run/review?who=1&n={n}")
    page.evaluate("document.querySelector('[name=reviewer]').select()")
    page.type(reviewer)
    page.evaluate(f"document.querySelector('[name=n]').add(new Option({n}, {n}, true, true))")
    strike(page, "Enter")


@pytest.mark.browser
@pytest.mark.parametrize("n", [6, pytest.param(20, marks=pytest.mark.long)])
def test_two_reviewers_mark_by_keys_alone_and_see_how_far_they_agree(page: Page, address: str, root: Path, n: int) -> None:
    ada, bob = f"Ada{n}", f"Bob{n}"
    start(page, address, ada, n)
    seen = []
    for i in range(n):
        assert f"{i + 1} of {n}" in text(page)
        assert "Hidden until you mark it" in text(page) and not [word for word in HIDDEN if word in text(page)]
        seen.append(page.evaluate("document.querySelector('[name=image]').value"))
        if i == 3:  # stopped, and gone on with in the same place
            page.open(f"{address}/runs/run/review?n={n}")
            assert page.evaluate("document.querySelector('[name=image]').value") == seen[-1]
        strike(page, "123"[i % 2])
    assert f"{n} of {n} marked" in text(page)
    assert page.evaluate("document.cookie") == ""  # no script reads who reviews

    start(page, address, bob, n)
    assert page.evaluate("document.querySelector('[name=image]').value") == seen[0]  # the same for everyone
    assert "Ada" not in text(page)
    strike(page, "2")
    strike(page, "u")  # the last one anew
    assert f"1 of {n}" in text(page) and "You marked it rejected" in text(page)
    assert f"{ada}: confirmed" in page.evaluate("document.querySelector('details').textContent")
    strike(page, "1")
    strike(page, "j")
    strike(page, "k")
    assert f"2 of {n}" in text(page)
    page.press("n")
    page.type("123 jk")  # in the note, keys are letters
    page.press("Escape")
    for i in range(1, n):
        strike(page, "123"[i % 3])
    assert "kappa" in text(page) and f"{ada} and {bob}" in text(page)
    given = by_subject(query(root, "from marks where reviewer in ($a, $b)", {"a": ada, "b": bob}).to_pylist())
    [pair] = agreement(given)
    # Ada: 1 2 1 2 …, Bob: 1 2 3 1 2 3 …: the same where i % 6 is 0 or 1. By chance: shares of a mark, multiplied and added.
    same = sum(i % 6 < 2 for i in range(n))
    chance = sum((n + 1 - k) // 2 * ((n + 2 - k) // 3) for k in (0, 1)) / n**2
    assert (pair.shared, pair.agreed, len(disagreements(given))) == (n, same, n - same)
    assert pair.kappa == pytest.approx((same / n - chance) / (1 - chance)) and pair.low < same / n < pair.high
    [noted] = query(root, "select note from marks where reviewer = $b and note <> ''", {"b": bob}).to_pylist()
    assert noted == {"note": "123 jk"}


def test_one_mark_for_all_has_no_kappa() -> None:
    rows = [
        {"image_id": str(i), "method": "dime", "seed": 0, "reviewer": who, "mark": "rejected"} for i in range(3) for who in "AB"
    ]
    [pair] = agreement(by_subject(rows))
    assert (pair.agreed, pair.kappa) == (3, None)


def test_marks_of_forty_reviewers_at_once_are_all_kept(address: str, root: Path) -> None:
    start_page = urllib.request.urlopen(f"{address}/runs/run/review", timeout=60).read().decode()
    found = re.search(r'name="token" value="([^"]+)"', start_page)
    assert found is not None
    images = query(root, "select image_id from outcomes where run_id = 'run' order by image_id limit 20")["image_id"].to_pylist()

    def mark(i: int) -> int:
        form = {"token": found[1], "n": 20, "at": 1, "image": images[i % 20], "method": "dime", "seed": 0, "mark": MARKS[i % 3]}
        named = {"Cookie": f"reviewer=crowd-{i}"}
        sent = urllib.request.Request(f"{address}/runs/run/review", urllib.parse.urlencode(form).encode(), named)
        return int(urllib.request.urlopen(sent, timeout=120).status)

    with ThreadPoolExecutor(40) as crowd:
        assert set(crowd.map(mark, range(40))) == {200}
    kept = query(root, "select reviewer, image_id, mark from facts.reviews where reviewer like 'crowd-%'").to_pylist()
    assert len(kept) == 40
    assert {tuple(row.values()) for row in kept} == {(f"crowd-{i}", images[i % 20], MARKS[i % 3]) for i in range(40)}


@pytest.mark.browser
def test_a_card_without_a_name_gets_one(page: Page, address: str, root: Path) -> None:
    page.open(f"{address}/runs/run")
    page.evaluate("document.querySelector('[id=\"place-top left\"] [name=name], #place-top-left [name=name]').focus()")
    page.type("a stamp")
    page.press("Tab")
    page.evaluate("document.activeElement.select()")
    page.type("Cleo")
    strike(page, "Enter")
    assert "“a stamp”" in text(page)
    [kept] = query(root, "select claim, name, reviewer, len(has) as has from names").to_pylist()
    assert kept == {"claim": "top left", "name": "a stamp", "reviewer": "Cleo", "has": 12}


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), pytest.param(390, True, marks=pytest.mark.long)])
def test_no_page_has_a_barrier_or_is_too_wide(page: Page, address: str, width: int, dark: bool) -> None:
    page.resize(width, dark=dark)
    image = query_first_image(page, address)
    for path in ("/", "/compare?run=run&run=other", ASKED, *(f"/runs/run/{tab}".rstrip("/") for tab in TABS), image):
        page.open(address + path)
        assert (path, barriers(page)) == (path, [])
        assert (path, page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")) == (path, 0)


def query_first_image(page: Page, address: str) -> str:
    page.open(f"{address}/runs/run/explanations")
    return str(page.evaluate("new URL(document.querySelector('main a[href*=\"/explanations/\"]').href).pathname"))
