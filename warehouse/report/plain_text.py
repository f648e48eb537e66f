"""A report as plain text, for readers that see no page: headings, sentences, tables row by row; no images, charts or SQL."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_UNSEEN = {"style", "template", "title", "svg", "nav"}
_UNREAD = {("class", name) for name in ("sql", "skip", "switch", "close", "switch-to", "printed")}
_BLOCKS = {
    "p",
    "li",
    "tr",
    "div",
    "section",
    "h1",
    "h2",
    "h3",
    "h4",
    "dl",
    "table",
    "figure",
    "details",
    "main",
    "header",
    "footer",
}


class PlainText(HTMLParser):
    """The text of a page that this package wrote, in `text`."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self._unseen: list[str] = []  # open elements of which nothing is text
        self._parts: list[str] = []
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        """Lines without empty ones between them, but before headings."""
        lines = (re.sub(r"\s+", " ", line).strip(" |") for line in "".join(self._parts).split("\n"))
        return re.sub(r"\n(#+ )", r"\n\n\1", "\n".join(filter(None, lines))) + "\n"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._unseen or tag in _UNSEEN or _UNREAD & set(attrs):
            self._unseen += [tag] * (not self._unseen or tag == self._unseen[0])
        elif tag in _BLOCKS:
            self._parts.append("\n" + "#" * (int(tag[1]) if re.fullmatch(r"h\d", tag) else 0) + " ")
        elif tag in ("td", "th"):
            self._parts.append(" | ")
        elif tag == "dd":
            self._parts.append(": ")
        elif tag == "dt":
            self._parts.append("\n")
        elif tag == "span":
            self._parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if self._unseen:
            if tag == self._unseen[-1]:
                self._unseen.pop()
        elif tag in _BLOCKS:
            self._parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self._parts.append(re.sub(r"\s+", " ", data))
