"""The report in a real browser: nothing complains, nothing is fetched, nothing overflows, hostile names stay text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Page, chromium_page, find_chromium
from portrait_run import write_portrait_run

from warehouse.report.pdf import write_pdf
from warehouse.report.render import write_report

pytestmark = pytest.mark.browser

NAMES = {"glasses": "<script>document.title='owned'</script>", "hat": "<img src=x onerror=document.title='owned'>"}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, "hostile-run", n=48, size=32, names=NAMES, file_name="<script>document.title='owned'</script>{}.png")
    return write_report(root, "hostile-run")


@pytest.fixture(params=[(1280, False), (1280, True), (390, False), (390, True)], ids=["wide", "wide-dark", "phone", "phone-dark"])
def page(request: pytest.FixtureRequest, report: Path) -> Iterator[Page]:
    with chromium_page() as page:
        width, dark = request.param
        page.resize(width, dark=dark)
        page.open(f"{report.as_uri()}#all")
        yield page


def test_report_in_the_browser(page: Page, report: Path) -> None:
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("data:")] == [report.as_uri()]
    assert page.evaluate("document.title").startswith("The smile classifier “planted” relies on <script>")
    assert page.evaluate("document.scripts.length") == 0
    assert NAMES["hat"] in page.evaluate("document.body.innerText")
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    # Input, counterfactual, difference, mask, and in the gallery the classifier's saliency.
    kinds = (".pick", ".example", ".pairs.all article", ".pairs.best li", ".maps img")
    picks, examples, pairs, best, maps = (page.evaluate(f"document.querySelectorAll('{kind}').length") for kind in kinds)
    assert (pairs, best, maps) == (5, 3, 4)  # of the glasses: input, edit, control, edit pasted; changes and saliency, two each
    assert page.evaluate("[...document.images].length") == 5 * picks + 4 * examples + 4 * pairs + 3 * best + maps >= 64
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0 && image.alt)")
    # The style's hash in the policy is right: the style applies.
    assert page.evaluate("getComputedStyle(document.querySelector('.sections > section')).borderTopStyle") == "solid"


SHOWN = "[...document.querySelectorAll('.pick')].filter(pick => pick.checkVisibility())"


def chosen(page: Page, menu: str, entry: int) -> None:
    page.evaluate(f"document.getElementById('{menu}').selectedIndex = {entry}")


def test_filters_work_without_a_script(report: Path) -> None:
    with chromium_page() as page:
        page.open(f"{report.as_uri()}#gallery")
        everything = page.evaluate(f"{SHOWN}.length")
        chosen(page, "outcome", 2)  # flipped, judge disagrees
        assert 0 < page.evaluate(f"{SHOWN}.length") < everything
        assert page.evaluate(f"{SHOWN}.every(pick => pick.classList.contains('outcome-disagrees'))")
        chosen(page, "outcome", 0)
        chosen(page, "source", 1)
        assert page.evaluate(f"{SHOWN}.length > 0 && {SHOWN}.every(pick => pick.innerText.includes('from neutral'))")
        chosen(page, "source", 0)
        assert page.evaluate(f"{SHOWN}.length") == everything


FOCUS = "document.activeElement"


def reach(page: Page, what: str) -> list[str]:
    """Everything that the key Tab goes to on the way, by id, address or tag."""
    reached: list[str] = []
    while what not in reached and len(reached) < 60:
        page.press("Tab")
        reached.append(page.evaluate(f"{FOCUS}.id || {FOCUS}.getAttribute('href') || {FOCUS}.tagName"))
    assert what in reached
    return reached


TABS = ("summary", "evidence", "tab-gallery", "groups", "checks", "method", "tab-provenance")
VISIBLE = "[...document.querySelectorAll('.tab')].filter(tab => tab.checkVisibility()).map(tab => tab.id)"
CURRENT = "[...document.querySelectorAll('.tabs a')].filter(a => a.querySelector('.shown').checkVisibility()).map(a => a.hash)"
ANCHORS = {  # of e-mails and artifacts of older versions, too
    "verdict": "summary", "claims": "summary", "accuracy": "summary", "findings": "evidence", "attributes": "evidence",
    "beyond": "evidence", "scorecard": "evidence", "reviews": "evidence", "gallery": "tab-gallery", "picks-best": "tab-gallery",
    "predictions": "groups", "confusion": "groups", "worst-groups": "groups", "subgroups": "groups", "rejected": "groups",
    "conditions": "checks", "canary": "checks", "comparison": "checks", "scope": "method", "limits": "method",
    "crosswalk": "method", "provenance": "tab-provenance",
}  # fmt: skip
# Every short word of a name in a table lies on one line.
BROKEN = """
[...document.querySelectorAll('th')].filter(th => th.checkVisibility()).flatMap(th => {
    const walker = document.createTreeWalker(th, NodeFilter.SHOW_TEXT), found = [];
    for (let text = walker.nextNode(); text; text = walker.nextNode())
        for (const word of text.data.matchAll(/\\p{L}{2,13}(?![\\p{L}\\w.='<>()/])/gu)) {
            const range = document.createRange();
            range.setStart(text, word.index); range.setEnd(text, word.index + word[0].length);
            if (range.getClientRects().length > 1) found.push(word[0]);
        }
    return found;
})
""".strip()


def test_each_tab_is_shown_alone_and_every_anchor_opens_its_own(report: Path) -> None:
    with chromium_page() as page:
        page.resize(1280)
        page.open(report.as_uri())
        assert (page.evaluate(VISIBLE), page.evaluate(CURRENT)) == (["summary"], ["#summary"])
        for tab in TABS:
            address = f"#{tab.removeprefix('tab-')}"
            page.evaluate(f"location.hash = '{address}'")
            assert (page.evaluate(VISIBLE), page.evaluate(CURRENT)) == ([tab], [address])
        for anchor, tab in ANCHORS.items():
            page.evaluate(f"location.hash = '#{anchor}'")
            assert page.evaluate(VISIBLE) == [tab], anchor
            assert page.evaluate(f"document.getElementById('{anchor}').checkVisibility()"), anchor
        page.evaluate("location.hash = '#all'")
        assert page.evaluate(VISIBLE) == list(TABS)


def test_print_has_every_tab_and_one_switch_shows_the_sql(report: Path) -> None:
    sql = "[...document.querySelectorAll('.sql')].filter(query => query.checkVisibility()).length"
    with chromium_page() as page:
        page.resize(1280)
        page.open(f"{report.as_uri()}#all")
        assert page.evaluate(sql) == 0
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        page.evaluate("document.getElementById('show-sql').click()")
        assert page.evaluate(sql) == page.evaluate("document.querySelectorAll('.sql').length") > 30
        page.evaluate("location.hash = ''")
        page.send("Emulation.setEmulatedMedia", media="print")
        assert page.evaluate(VISIBLE) == list(TABS)
        assert not page.evaluate("document.querySelector('.tabs').checkVisibility()")


def test_no_word_of_a_name_is_broken_on_a_phone(report: Path) -> None:
    with chromium_page() as page:
        page.resize(390)
        page.open(f"{report.as_uri()}#all")
        assert "background" in page.evaluate("document.body.innerText")
        assert page.evaluate(BROKEN) == []


def test_the_keyboard_reaches_the_verdict_the_menus_and_the_sql(report: Path) -> None:
    with chromium_page() as page:
        page.open(report.as_uri())
        page.press("Tab")
        assert page.evaluate(f"{FOCUS}.className") == "skip"
        page.press("Enter")
        assert page.evaluate("location.hash") == "#verdict"
        page.evaluate("document.querySelector('.skip').focus()")
        reached = reach(page, "#gallery")
        assert reached[:3] == ["#summary", "#evidence", "#gallery"]
        page.press("Enter")
        assert page.evaluate("location.hash") == "#gallery"
        page.evaluate("document.querySelector('.skip').focus()")
        reached = reach(page, "outcome")
        assert {"#groups", "show-sql"} <= set(reached)
        assert page.evaluate(f"getComputedStyle({FOCUS}).outlineStyle") == "solid"
        everything = page.evaluate(f"{SHOWN}.length")
        page.press("ArrowDown")
        assert page.evaluate(f"{FOCUS}.value") == "agrees" and 0 < page.evaluate(f"{SHOWN}.length") < everything


def test_a_picture_is_enlarged_and_closed_again_with_the_keyboard(report: Path) -> None:
    first = "document.querySelector('.pick .zoom')"
    width = f"{first}.querySelector('img').getBoundingClientRect().width"
    with chromium_page() as page:
        page.resize(1280)
        page.open(f"{report.as_uri()}#gallery")
        page.evaluate(f"{first}.querySelector('.open').focus()")
        assert page.evaluate(width) < 130
        page.press("Enter")
        assert page.evaluate("location.hash") == "#example-random-1-input" and page.evaluate(width) > 700
        assert page.evaluate(f"getComputedStyle({first}.querySelector('img')).imageRendering") == "pixelated"
        assert page.evaluate("document.elementFromPoint(20, 20).className") == "close", "a click beside it closes it, too"
        page.press("Tab")
        assert page.evaluate(f"{FOCUS}.innerText") == "Close"
        page.press("Enter")
        assert page.evaluate("location.hash") == "#example-random-1" and page.evaluate(width) < 130


def test_report_can_be_printed(report: Path) -> None:
    assert write_pdf(report).read_bytes().startswith(b"%PDF")


def test_the_browser_tells_errors_and_requests(tmp_path: Path) -> None:
    # Without this, a silent harness would pass every page.
    path = tmp_path / "loud.html"
    path.write_text("<img src='https://example.invalid/x.png'><script>console.error('loud')</script>", encoding="utf-8")
    with chromium_page() as page:
        page.open(path.as_uri())
    assert "https://example.invalid/x.png" in page.requests
    assert any("loud" in complaint for complaint in page.complaints)


def test_a_machine_without_a_browser_is_told_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FileNotFoundError, match="apt-get install chromium"):
        find_chromium()
