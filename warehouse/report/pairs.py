"""The decisive pictures: an image beside itself with one thing changed, and beside its null, each with the classifier's score.

Which images are shown is a rule over all that count, not a choice: in order of how far the score moved the way it moves on
average, the first, the last, and those at a quarter, a half and three quarters between (EVIDENCE: `pairs`, `moved`, `pasted`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import duckdb

from warehouse.lens.fetch import Row, fetch
from warehouse.report.cards import thumbnail
from warehouse.report.gallery import picture
from warehouse.report.names import Names
from warehouse.report.queries import Evidence, input_images

Pngs = Mapping[tuple[object, ...], bytes | None]  # by the kind of picture and what it is of

_SHOWN = "(select run_id, coalesce((config ->> 'thumbnails')::bool, true) as shown from runs) using (run_id)"
_EDITS = f"""
    select e.image_id, attribute, d.png as edited, d.sham_png as sham, d.pasted_png as pasted
    from effects e join {_SHOWN} join (select * rename (run_id as edits) from edits) d using (edits, image_id, attribute)
    where run_id = $run and shown
"""
_PROBES = f"""
    select image_id, class, probe, direction, moved_png as png from probes join {_SHOWN}
    where run_id = $run and shown and moved_png is not null
"""
_TRANSPLANTS = f"""
    select image_id, class, place, other, pasted_png as png from transplants join {_SHOWN}
    where run_id = $run and shown and pasted_png is not null
"""


@dataclass(frozen=True)
class Frame:
    """A picture and P(class) of it; no uri where the warehouse holds no picture.

    kind: input; edited, sham, pasted (an edit); down, up (a probe); other, same (a place pasted from an image that is answered
    otherwise, or alike).
    """

    kind: str
    uri: str | None
    score: float


@dataclass(frozen=True)
class Pair:
    """One image's pictures. row: of the evidence; file: its path in the image folder."""

    row: Row
    file: str
    frames: tuple[Frame, ...]

    def frame(self, kind: str) -> Frame:
        """The picture of that kind."""
        return next(frame for frame in self.frames if frame.kind == kind)


@dataclass(frozen=True)
class Claim:
    """One claim's pairs, in order of how far the score moved.

    kind: attribute, property or place; target: the class whose score is shown; n: images that count; tried: edits made.
    """

    kind: str
    name: str
    target: str
    verdict: str
    n: int
    tried: int | None
    pairs: tuple[Pair, ...]

    def named(self, names: Names) -> Claim:
        """The same with names for people."""
        row = names.row({"kind": self.kind, "name": self.name, "target": self.target})
        return replace(self, name=row["name"], target=row["target"])

    @property
    def pictured(self) -> bool:
        """Whether there is anything to see beyond the inputs."""
        return any(frame.uri for pair in self.pairs for frame in pair.frames if frame.kind != "input")

    @property
    def best(self) -> tuple[Pair, ...]:
        """Up to three: the strongest, the upper quartile and the median."""
        return tuple(pair for pair in self.pairs if pair.row["pick"] in ("strongest", "upper quartile", "median"))


def ask_pictures(
    lens: duckdb.DuckDBPyConnection, run_id: str, found: Mapping[str, Evidence]
) -> dict[tuple[object, ...], bytes | None]:
    """PNG bytes of the pictures of this evidence; none where the run's configuration says `thumbnails: false`."""
    edits, moved, pasted = (found[name].rows for name in ("pairs", "moved", "pasted"))
    rows = [*edits, *moved, *pasted]
    wanted = sorted({row["image_id"] for row in rows})
    pngs: dict[tuple[object, ...], bytes | None] = {}
    for row in input_images(lens, run_id, wanted):
        pngs["input", row["image_id"]] = row["png"]
    if edits:
        chosen = sorted({row["image_id"] for row in edits})
        ids = {f"image_{i}": image_id for i, image_id in enumerate(chosen)}
        among = f"and e.image_id in ({', '.join(f'${name}' for name in ids)})"
        for row in fetch(lens, f"{_EDITS} {among}", run=run_id, **ids):
            for kind in ("edited", "sham", "pasted"):
                pngs[kind, row["image_id"], row["attribute"]] = row[kind]
    if moved:
        for row in fetch(lens, _PROBES, run=run_id):
            pngs[row["direction"], row["image_id"], row["class"], row["probe"]] = row["png"]
    if pasted:
        for row in fetch(lens, _TRANSPLANTS, run=run_id):
            pngs["other" if row["other"] else "same", row["image_id"], row["class"], row["place"]] = row["png"]
    return pngs


def pairs_of(found: Mapping[str, Evidence], pngs: Pngs) -> list[Claim]:
    """Attributes, properties and places, in the order of `findings` each. pngs: of `ask_pictures`."""
    edits, moved, pasted = (found[name].rows for name in ("pairs", "moved", "pasted"))
    return [
        *_claims("attribute", "attribute", "target", edits, lambda row: _edited(row, pngs)),
        *_claims("property", "property", "class", moved, lambda row: _moved(row, pngs)),
        *_claims("place", "zone", "class", pasted, lambda row: _pasted(row, pngs)),
    ]


def _claims(kind: str, name: str, target: str, rows: Sequence[Row], frames_of: Callable[[Row], tuple[Frame, ...]]) -> list[Claim]:
    found = []
    for _, group in groupby(rows, key=lambda row: row["rank"]):
        first, *others = group
        pairs = tuple(Pair(row, row["path"] or row["image_id"][:12], frames_of(row)) for row in (first, *others))
        found.append(Claim(kind, first[name], first[target], first["verdict"], first["n"], first.get("tried"), pairs))
    return found


def _edited(row: Row, pngs: Pngs) -> tuple[Frame, ...]:
    """What the classifier does not lean on is shown without the pasted edit: pictures are most of a page's bytes."""
    found = row["verdict"] in ("confirmed", "suspected")
    changed = tuple(
        Frame(kind, picture(pngs.get((kind, row["image_id"], row["attribute"]))), row[f"p_{kind}"])
        for kind in (("edited", "sham", "pasted") if found else ("edited", "sham"))
    )
    return _input(row, pngs), *changed


def _moved(row: Row, pngs: Pngs) -> tuple[Frame, ...]:
    """Down, input, up; not a way that the image was not moved. Mirrored has no down."""
    keys = row["image_id"], row["class"], row["property"]
    there = {
        way: Frame(way, picture(pngs.get((way, *keys))), row[f"p_{way}"])
        for way in ("down", "up")
        if row[f"strength_{way}"] or (row["property"] == "mirror" and way == "up")
    }
    there["input"] = _input(row, pngs)
    return tuple(there[way] for way in ("down", "input", "up") if way in there)


def _pasted(row: Row, pngs: Pngs) -> tuple[Frame, ...]:
    def framed(kind: str, *of: object) -> str | None:
        return thumbnail(pngs.get((kind, row["image_id"], *of)), row["cell"], row["grid"])

    ways = tuple(
        Frame(kind, framed(kind, row["class"], row["cell"]), row[f"p_{kind}"])
        for kind in ("other", "same")
        if row[f"p_{kind}"] is not None
    )
    return Frame("input", framed("input"), row["p_before"]), *ways


def _input(row: Row, pngs: Pngs) -> Frame:
    return Frame("input", picture(pngs.get(("input", row["image_id"]))), row["p_before"])
