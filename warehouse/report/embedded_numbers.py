"""The numbers of a report, for machines: every question with its SQL and its answer, in the page itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from html.parser import HTMLParser
from typing import Any

from cfx.errors import UserError
from warehouse.report.queries import Evidence

BLOCK = "cfx-numbers"
_ESCAPED = (
    ("&#34;", '"'),
    ("&#39;", "'"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&amp;", "&"),
)  # as Jinja does
_NUMBER = re.compile(r"[+−-]?\d[\d,]*(?:\.\d+)?")


def block(run_id: str, evidence: Mapping[str, Evidence]) -> str:
    """The report's questions and answers as JSON, for the element `<template id="cfx-numbers">`."""
    questions = {name: {"sql": each.sql, "rows": steady(each.rows)} for name, each in evidence.items()}
    return json.dumps({"run_id": run_id, "questions": questions}, default=_plain, ensure_ascii=False)


def read_block(html: str) -> dict[str, Any]:
    """What `block` wrote, from a whole page. Raises ValueError where it is not there or not whole."""
    _, _, rest = html.partition(f'<template id="{BLOCK}">')
    text = rest.partition("</template>")[0]
    for escaped, character in _ESCAPED:
        text = text.replace(escaped, character)
    read: dict[str, Any] = json.loads(text)
    return read


def numbers(rows: object, place: str = "") -> Iterator[tuple[str, float]]:
    """Every number of an answer with its place, as in `[0].effect`; yes and no are none."""
    if isinstance(rows, Mapping):
        for name, value in rows.items():
            yield from numbers(value, f"{place}.{name}")
    elif isinstance(rows, list | tuple):
        for i, value in enumerate(rows):
            yield from numbers(value, f"{place}[{i}]")
    elif isinstance(rows, int | float) and not isinstance(rows, bool):
        yield place, float(rows)


def numbers_in(text: str) -> list[str]:
    """Every number that a reader sees in a text, as it is written."""
    return _NUMBER.findall(text)


class Page(HTMLParser):
    """A report, read: the JSON of its numbers, and every number that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self._inside: list[str] = []
        self._block: list[str] = []
        self.seen: list[str] = []
        self.feed(html)
        self.close()

    @property
    def content(self) -> dict[str, Any]:
        """The JSON. Raises UserError where there is none, or not whole."""
        read = json.loads("".join(self._block))
        if not isinstance(read, dict) or "questions" not in read:
            raise UserError("the report holds no numbers")
        return read

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("style", "template", "title"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if "template" in self._inside:
            self._block.append(data)
        elif "style" not in self._inside:
            self.seen += numbers_in(data)


def steady(value: Any) -> Any:
    """An answer with its numbers to ten digits: the last ones of a mean depend on the order of its sum."""
    if isinstance(value, Mapping):
        return {name: steady(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [steady(inner) for inner in value]
    return float(f"{value:.10g}") if isinstance(value, float) else value


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
