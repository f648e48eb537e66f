"""The explorer's gallery and image page in a real browser: facets, slider, overlays, keys; and without script."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from accessibility import barriers
from chromium import Page, chromium_page
from portrait_run import write_portrait_run

from warehouse.explorer.app import explorer
from warehouse.lens.connect import query

pytestmark = pytest.mark.browser

NAMES = {"hat": "<script>document.title='owned'</script>"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit with edits of glasses, and some of the same images in another run."""
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, "run", n=40, size=16, names=NAMES, places={0: 0.3}, pasted=0)
    write_portrait_run(root, "twin", n=4, size=16, planted=False, names=NAMES)
    return root


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(explorer(root), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with chromium_page() as page:
        yield page


@pytest.fixture
def page(browser: Page) -> Page:
    """The module's one browser, at its widest and with script."""
    browser.resize(1280)
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    return browser


def strike(page: Page, key: str) -> None:
    """Press a key that types a letter, or an arrow."""
    text = {"text": key} if len(key) == 1 else {"windowsVirtualKeyCode": {"ArrowLeft": 37, "ArrowRight": 39}[key]}
    page.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
    page.send("Input.dispatchKeyEvent", type="keyUp", key=key)


def test_a_person_narrows_down_compares_and_marks_with_the_keys(address: str, root: Path, page: Page) -> None:
    page.open(f"{address}/runs/run/explanations")
    assert page.evaluate("document.querySelectorAll('.shot').length") == 36 and barriers(page) == []
    added = "select count(*) as n from attributes where run_id = 'run' and arm = 'guided' and c_glasses = 1"
    n = query(root, added)["n"][0].as_py()
    page.submit(f"""document.querySelector('[aria-label="+ glasses: {n}"]').click()""")
    assert page.evaluate("document.querySelectorAll('.shot').length") == n and "+ glasses" in page.evaluate(
        "document.querySelector('.chips').innerText"
    )
    page.submit(
        """document.querySelector('[name="min.l1"]').value = '0'; document.querySelector('[name="min.l1"]').form.submit()"""
    )
    assert page.evaluate("document.querySelectorAll('.chip').length") == 2
    strike(page, "j")
    strike(page, "j")
    strike(page, "k")
    assert page.evaluate("document.activeElement === document.querySelectorAll('.shot')[0]")
    over = "getComputedStyle(document.querySelector('.shot .over'))"
    assert page.evaluate(f"{over}.opacity") == "1" and page.evaluate(f"{over}.clipPath") == "none"  # the counterfactual, whole
    assert page.evaluate("[...document.images].every(image => image.alt)") and barriers(page) == []

    page.press("Enter")
    page.loaded()
    first = page.evaluate("location.href")
    assert page.evaluate("document.querySelector('#to-gallery').innerText") == f"1 of {n} chosen"
    cut = "getComputedStyle(document.querySelector('.after')).clipPath"
    assert page.evaluate(cut) == "inset(0px 0px 0px 50%)"
    page.evaluate("document.querySelector('#slider').focus()")
    strike(page, "ArrowRight")
    assert page.evaluate(cut) == "inset(0px 0px 0px 51%)"
    page.evaluate("document.activeElement.blur()")
    strike(page, "ArrowLeft")
    assert page.evaluate(cut) == "inset(0px 0px 0px 46%)"
    shown = "[...document.querySelectorAll('.overlays img')].filter(i => getComputedStyle(i).visibility === 'visible')"
    for key, overlay in (
        ("d", "of-difference"),
        ("d", ""),
        ("o", "of-mask"),
        ("o", "of-saliency"),
        ("o", ""),
        ("d", "of-difference"),
    ):
        strike(page, key)
        assert page.evaluate(f"{shown}.map(image => image.className).join()") == overlay
    assert page.evaluate(f"{shown}[0].naturalWidth") == 16 and barriers(page) == []
    strike(page, "s")
    assert page.evaluate("getComputedStyle(document.querySelector('.slide')).display") == "none"
    words = page.evaluate("document.body.innerText")
    assert "Edits of this image" in words and "Transplants" in words and NAMES["hat"] in words
    strike(page, "?")
    assert "3 mark it confirmed, rejected" in page.evaluate("document.querySelector('dialog').innerText").replace("\n", " ")
    page.evaluate("document.querySelector('dialog').close()")

    strike(page, "2")  # nobody said who it is yet
    assert page.evaluate("document.activeElement.name") == "reviewer"
    page.evaluate("document.activeElement.value = 'Ada'; document.activeElement.blur()")
    strike(page, "2")
    page.loaded()
    [mark] = query(root, "from marks").to_pylist()
    assert (mark["reviewer"], mark["mark"], mark["image_id"] in first) == ("Ada", "rejected", True)
    assert page.evaluate("location.href") == f"{first}#reviews"  # and the selection with it
    assert page.evaluate("document.querySelector('[name=reviewer]').value") == "Ada"
    page.evaluate("document.activeElement.blur()")
    strike(page, "j")
    page.loaded()
    assert page.evaluate("document.querySelector('#to-gallery').innerText") == f"2 of {n} chosen"
    strike(page, "k")
    page.loaded()
    assert page.evaluate("location.href") == first
    assert page.complaints == [] and not page.evaluate("document.title").startswith("owned")
    assert all(url.startswith((address, "data:")) for url in page.requests)


def test_edits_other_runs_and_every_picture_are_on_the_page(address: str, root: Path, page: Page) -> None:
    (image_id,) = query(root, "select image_id from images where run_id = 'twin' order by image_id limit 1")[
        "image_id"
    ].to_pylist()
    page.resize(390, dark=True)
    page.open(f"{address}/runs/run/explanations/{image_id}/dime/0")
    page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    page.evaluate("Promise.all([...document.images].map(image => image.decode().catch(() => 0))).then(() => 1)")
    assert page.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)") == []
    assert page.evaluate("document.querySelector('#others').innerText.includes('clean')")
    edit = page.evaluate("[...document.querySelectorAll('.edit')].find(one => one.innerText.startsWith('glasses')).innerText")
    (effect,) = query(
        root, f"from effects where run_id = 'run' and image_id = '{image_id}' and attribute = 'glasses'"
    ).to_pylist()
    target = page.evaluate("document.querySelector('h1').innerText.split(' → ')[1]")
    place = ["neutral", "smiling"].index(target)
    for arm in ("before", "sham", "after", "pasted"):
        assert f"{effect[f'probabilities_{arm}'][place]:.3f}" in edit
    assert barriers(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_without_script_there_are_both_pictures_overlays_and_facets(address: str, page: Page) -> None:
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    page.open(f"{address}/runs/run/explanations?outcome=flipped")
    assert page.evaluate("document.querySelectorAll('.shot').length") == 36
    page.open(page.evaluate("document.querySelector('.shot').href"))
    before, after = page.evaluate(
        "['before', 'after'].map(side => document.querySelector(`.stage .${side} img`).getBoundingClientRect().x)"
    )
    assert before < after and page.evaluate("document.querySelector('.slide').getBoundingClientRect().height") == 0
    page.evaluate("document.querySelector('#layer-mask').click()")
    assert page.evaluate("getComputedStyle(document.querySelector('.overlays .of-mask')).visibility") == "visible"
