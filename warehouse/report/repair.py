"""Before and after a repair on one page that needs nothing but itself; there is no script. Style as in the report."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from warehouse.lens.connect import open_warehouse
from warehouse.lens.fetch import Row, fetch
from warehouse.lens.wholeness import refuse_damaged
from warehouse.report import formatting as wording
from warehouse.report.render import TEMPLATES

MOMENTS = ("before", "after")
PICTURES = """
    select i.png, d.pasted_png
    from effects e
    join images i on i.run_id = e.run_id and i.image_id = e.image_id
    join edits d on d.run_id = e.edits and d.image_id = e.image_id and d.attribute = e.attribute
    where e.run_id = $run and e.image_id = $image and e.attribute = $attribute
"""
RANKED = "select attribute, effect, low, high, intervention, verdict from verdicts where run_id = $run order by rank"


def write_page(root: Path, repair: Row, to: Path) -> Path:
    """Write the page of a repair's record, with the audits that it names. Returns its path."""
    to.write_text(repair_html(root, repair), encoding="utf-8")
    return to


def repair_html(root: Path, repair: Row) -> str:
    """The page: what changed on held-out images, pairs of them with scores, and what the audits before and after say."""
    with closing(open_warehouse(root, sql=f"{PICTURES};{RANKED}")) as lens:
        refuse_damaged(lens, repair["run"], *(repair[moment]["audit"]["run"] for moment in MOMENTS if repair[moment]["audit"]))
        pairs = [
            dict(pair) | {"images": [_uri(row["png"]), _uri(row["pasted_png"])]}
            for pair in repair["pairs"]
            for row in fetch(lens, PICTURES, run=repair["run"], image=pair["image_id"], attribute=pair["attribute"])
        ]
        audits = {moment: repair[moment]["audit"] for moment in MOMENTS}
        ranked = {moment: fetch(lens, RANKED, run=audit["run"]) if audit else [] for moment, audit in audits.items()}
    later = {row["attribute"]: row for row in ranked["after"]}
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8") + (TEMPLATES / "repair.css").read_text(encoding="utf-8")
    page = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    page.filters |= {name: getattr(wording, name) for name in ("percent", "points", "probability", "count")}
    return page.get_template("repair.html.j2").render(
        repair=repair,
        audits=audits,
        pairs=pairs,
        rows=[(row, later.get(row["attribute"])) for row in ranked["before"]],
        kind=_kind(audits),
        groups=[(row, _named(repair["after"]["groups"], row["group"])) for row in repair["before"]["groups"]],
        style=Markup(style),  # our own file, not data
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii"),
    )


def _kind(audits: Mapping[str, Row | None]) -> str:
    """The colour of the page: that of the gate on the repaired classifier."""
    after = audits["after"]
    return {"pass": "clear", "fail": "finding"}.get(after["gate"], "inconclusive") if after else "inconclusive"


def _named(groups: list[Row], name: str) -> Row:
    return next(row for row in groups if row["group"] == name)


def _uri(png: bytes | None) -> str | None:
    return None if png is None else f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
