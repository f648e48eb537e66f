"""What an audit tried on one image: attributes before and after, edits, probes, transplants, and its other explanations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from warehouse.explorer.shard_index import ShardIndex
from warehouse.lens.fetch import Row


class Score(NamedTuple):
    """A probability before and after."""

    name: str
    before: float
    after: float

    @property
    def change(self) -> float:
        return self.after - self.before

    @property
    def crossed(self) -> bool:
        return (self.before > 0.5) != (self.after > 0.5)


class Edit(NamedTuple):
    """An attribute edited alone. P(target) of the image, of its sham, of the edit, and of the image with the edit pasted."""

    attribute: str
    switched_on: bool
    before: float
    sham: float
    after: float
    pasted: float | None
    why_not: str  # it does not count; nothing where it does
    kept: bool  # with its pictures


class Probe(NamedTuple):
    """A property moved down and up: the change of P(class) by each; None where it was not tried."""

    name: str
    of: str
    down: float | None
    up: float | None

    @property
    def size(self) -> float:
        return max(abs(change) for change in (self.down, self.up, 0.0) if change is not None)


class Place(NamedTuple):
    """A cell of the image with that of donors pasted: mean change of P(class), by donors predicted another class and the same."""

    row: int
    column: int
    of: str
    other: float | None
    same: float | None
    donors: tuple[str, ...]  # those predicted another class


def attributes(names: Sequence[str], row: Row) -> list[Score]:
    """An explanation's attributes (columns of a run's table), the largest change first."""
    found = [Score(name, row[f"before_{name}"], row[f"after_{name}"]) for name in names if row[f"before_{name}"] is not None]
    return sorted(found, key=lambda score: -abs(score.change))


def edits(index: ShardIndex, run_id: str, image_id: str, target: int) -> list[Edit]:
    """The edits of an image, those that move P(target) most first. target: the class's place among the run's classes."""
    arms = [f"probabilities_{arm}" for arm in ("before", "sham", "after", "pasted")]
    rows = index.rows("effects", run_id, image_id, "attribute", "edits", "switched_on", "counted", *arms)
    found = []
    for row in rows:
        kept = index.rows("edits", row["edits"], image_id, "attribute", "confirmed", "side", "side_attribute")
        made = next((edit for edit in kept if edit["attribute"] == row["attribute"]), None)
        before, sham, after, pasted = (row[arm] and row[arm][target] for arm in arms)  # an older version did not paste
        why_not = "" if row["counted"] else _why_not(made)
        found.append(Edit(row["attribute"], row["switched_on"], before, sham, after, pasted, why_not, made is not None))
    return sorted(found, key=lambda edit: (bool(edit.why_not), -abs(edit.after - edit.sham)))


def probes(index: ShardIndex, run_id: str, image_id: str) -> list[Probe]:
    """The probes of an image that count, the largest change first."""
    rows = index.rows("probes", run_id, image_id, "class", "probe", "direction", "counted", "p_before", "p_after")
    changes = {(row["probe"], row["class"], row["direction"]): row["p_after"] - row["p_before"] for row in rows if row["counted"]}
    named = dict.fromkeys((name, of) for name, of, _ in changes)
    found = [Probe(name, of, changes.get((name, of, "down")), changes.get((name, of, "up"))) for name, of in named]
    return sorted(found, key=lambda probe: (-probe.size, probe.name))


def places(index: ShardIndex, run_id: str, image_id: str, grid: int) -> list[Place]:
    """The places that were pasted into an image, the largest change first. grid: cells along a side."""
    rows = index.rows("transplants", run_id, image_id, "donor_id", "class", "place", "other", "p_before", "p_after")
    found = []
    for (of, place), group in groupby(sorted(rows, key=_by_place), key=_by_place):
        pasted = list(group)
        changes = [(row["other"], row["p_after"] - row["p_before"]) for row in pasted]
        other, same = (_mean([change for kind, change in changes if kind == asked]) for asked in (True, False))
        donors = tuple(row["donor_id"] for row in pasted if row["other"])
        found.append(Place(*divmod(place, grid), of, other, same, donors))
    return sorted(found, key=lambda place: -abs(place.other or 0.0))


def other_explanations(index: ShardIndex, run_id: str, row: Row, runs: Sequence[Row]) -> list[Row]:
    """The other explanations of the same image, in this run and in others; runs: rows with run_id and name."""
    columns = ("method", "arm", "seed", "source", "target", "p_target", "p_target_cf", "flipped")
    here = (run_id, row["method"], row["seed"])
    return [
        found | {"run_id": run["run_id"], "name": run["name"], "image_id": row["image_id"]}
        for run in runs
        for found in index.rows("explanations", run["run_id"], row["image_id"], *columns)
        if found["arm"] == "guided" and (run["run_id"], found["method"], found["seed"]) != here
    ]


def _by_place(row: Row) -> tuple[str, int]:
    return row["class"], row["place"]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _why_not(edit: Row | None) -> str:
    """Why an edit does not count."""
    if edit is None:
        return "the edit is not kept"
    if not edit["confirmed"]:
        return "the attribute model does not see it change"
    return f"it also changes {edit['side_attribute']}, by {edit['side']:.2f}"
