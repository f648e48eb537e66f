"""axe-core in a page: what a person who sees, hears or points less would stumble over."""

from __future__ import annotations

import json
from pathlib import Path

from chromium import Page

AXE = Path(__file__).parent / "vendored" / "axe.min.js"
RUN = """
axe.run(document, {preload: false, resultTypes: ["violations"]}).then(found => JSON.stringify(
    found.violations.flatMap(rule => rule.nodes.map(node => [node.impact, rule.id, node.html, node.failureSummary]))
))
"""


def barriers(page: Page, impacts: tuple[str, ...] = ("serious", "critical")) -> list[str]:
    """What axe-core finds wrong with the page as it is shown now, of these impacts: a line each, with the element."""
    if page.evaluate("typeof axe") != "object":
        page.evaluate(AXE.read_text("utf-8"))
    found = json.loads(page.evaluate(f"'use strict'; {RUN}"))
    return [f"{impact}: {rule}: {html[:200]} {why}" for impact, rule, html, why in found if impact in impacts]
