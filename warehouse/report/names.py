"""What people read instead of a column's name: the configuration's `labels`, else underscores as spaces.

Facts, SQL and JSON keep the names that the data give; rows are renamed for the reader just before they become text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from warehouse.lens.fetch import Row

PROPERTIES: Mapping[str, str] = MappingProxyType(  # those of the properties of an image that are no English
    {
        "gamma": "mid-tones",
        "compression": "JPEG compression",
        "light_x": "light from the side",
        "light_y": "light from above",
        "stamp": "print at an edge",
        "corner": "colour of a corner",
        "subject_x": "horizontal position of the subject",
        "subject_y": "vertical position of the subject",
        "subject_scale": "size of the subject",
        "subject_tilt": "tilt of the subject",
        "mirror": "left and right",
        "pixels": "number of pixels",
        "aspect": "aspect ratio",
        "bits_per_pixel": "bits a pixel",
    }
)
_ONE = ("attribute", "source", "target", "class", "label", "name", "subject")  # columns that hold a name
_MANY = ("attributes", "tied", "classes", "false_alarms")  # columns that hold names
_TEXT = ("reason", "why", "rests_on", "ceiling_inputs")  # columns of sentences with names in them


@dataclass(frozen=True)
class Names:
    """Names of classes, attributes and properties for people. given: a name in the data -> what people call it."""

    given: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Row) -> Names:
        """Those of a run's configuration; `run` is a row of the view `runs`."""
        config = json.loads(run.get("config") or "{}")
        return cls(config.get("labels") or {})

    def __call__(self, name: str) -> str:
        """What people call an attribute or a class."""
        return self.given.get(name) or name.replace("_", " ")

    def text(self, text: str) -> str:
        """A sentence with names in it; what stands in backticks is code and stays."""
        known = sorted(map(re.escape, self.given), key=len, reverse=True)
        name = re.compile(rf"(?<![\w/.-])(?:{'|'.join([*known, r'[A-Za-z]+_[A-Za-z0-9_]+'])})(?![\w/-]|\.\w)")
        parts = text.split("`")
        parts[::2] = [name.sub(lambda found: self._anything(found[0]), part) for part in parts[::2]]
        return "`".join(parts)

    def rows(self, rows: Sequence[Row]) -> list[Row]:
        """Rows of a view with their names as people read them."""
        return [self.row(row) for row in rows]

    def row(self, row: Row) -> Row:
        """One row; a property goes by a phrase where its name is no word."""
        say = self._property if row.get("kind") == "property" else self
        named = {column: say(row[column]) for column in _ONE if isinstance(row.get(column), str)}
        named |= {column: [self._anything(name) for name in row[column]] for column in _MANY if isinstance(row.get(column), list)}
        if row.get("kind") == "property":
            named["property"] = row["name"]  # as the property is measured
        return row | named | {column: self.text(row[column]) for column in _TEXT if isinstance(row.get(column), str)}

    def run(self, run: Row) -> Row:
        """A row of `runs`, whose own name stays."""
        label = run["target_attribute"]
        return run | {"classes": [self(name) for name in run["classes"]], "target_attribute": self(label) if label else label}

    def _property(self, name: str) -> str:
        return PROPERTIES.get(name) or self(name)

    def _anything(self, name: str) -> str:
        return self.given.get(name) or self._property(name)
