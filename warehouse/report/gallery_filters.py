"""The gallery's filters without a script: three menus, and a style rule for each of their entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from warehouse.report.gallery import Example, Group


@dataclass(frozen=True)
class Filters:
    """What the menus offer. An entry's class is made of its number, so that no name from data reaches the style."""

    sources: tuple[str, ...]
    moved: tuple[str, ...]

    @classmethod
    def of(cls, groups: Sequence[Group]) -> Filters:
        examples = [example for group in groups for example in group.examples]
        return cls(
            tuple(sorted({example.row["source"] for example in examples})),
            tuple(sorted({change.attribute for example in examples for change in example.changes})),
        )

    def classes(self, example: Example) -> str:
        """The classes of an example that the menus ask for."""
        row = example.row
        outcome = "stayed" if not row["flipped"] else "disagrees" if row["judge_flipped"] is False else "agrees"
        moved = [f"moved-{1 + self.moved.index(change.attribute)}" for change in example.changes]
        return " ".join([f"outcome-{outcome}", f"source-{1 + self.sources.index(row['source'])}", *moved])

    @property
    def css(self) -> str:
        """Hides what an entry does not ask for while it is chosen."""
        entries = [("outcome", name) for name in ("agrees", "disagrees", "stayed")]
        entries += [("source", str(i + 1)) for i in range(len(self.sources))]
        entries += [("moved", str(i + 1)) for i in range(len(self.moved))]
        rules = (
            f'#gallery:has(#{menu} option[value="{value}"]:checked) .pick:not(.{menu}-{value}) {{ display: none; }}'
            for menu, value in entries
        )
        return "\n".join(rules) + "\n"
