"""axe-core, WCAG's machine-readable part, finds nothing serious on any page that people see."""

from __future__ import annotations

from pathlib import Path

import pytest
from accessibility import barriers
from chromium import chromium_page
from portrait_run import write_portrait_run

from warehouse.report.render import write_report

pytestmark = pytest.mark.browser

BAD = "data:text/html,<html lang=en><title>t</title><main><h1>A page</h1><img src='data:,'><button></button></main>"
TABS = "[...document.querySelectorAll('nav.tabs a')].map(tab => tab.getAttribute('href'))"


@pytest.mark.long
@pytest.mark.long
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_report_has_no_barrier_in_any_tab(tmp_path: Path, width: int, dark: bool) -> None:
    write_portrait_run(tmp_path, "run", n=24, size=16, places={0: 0.3}, pasted=0)
    path = write_report(tmp_path, "run")
    with chromium_page() as page:
        page.resize(width, dark=dark)
        page.open(path.as_uri())
        tabs = page.evaluate(TABS)
        assert len(tabs) >= 7
        for tab in tabs[:-1]:  # the last one shows all of them at once
            page.evaluate(f"document.querySelector(`nav.tabs [href='{tab}']`).click()")
            assert (tab, barriers(page)) == (tab, [])
        assert page.complaints == []


def test_barriers_are_found() -> None:
    with chromium_page() as page:
        page.open(BAD)
        found = barriers(page)
    assert sorted(line.split(": ")[1] for line in found) == ["button-name", "image-alt"]
