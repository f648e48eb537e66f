"""The stage beyond names: what decides the answers that no attribute names. Forward passes only; neither prior nor oracle.

Properties of the image are moved (probes), places are exchanged between images (transplants), and it is measured how much of the
answers the names explain (explained share). How each works, and what it may claim: `cfx.evidence`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cfx.errors import UserError
from cfx.evidence import probes, transplant
from cfx.evidence.explained import FEW, explained, generic_features
from cfx.evidence.paired import Effect, Floats
from tasks.kept_pictures import keep_pasted, keep_probed
from tasks.look import SIDE, SMALLEST, Columns, Exchanged, Look, look_at, subjects_of
from tasks.run import Run
from tasks.sample import Sample, drawn, mean_where_unknown
from tasks.stage import Rows, stage
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import Shard
from warehouse.lens.connect import query

OWN = "own prediction"  # what is looked at where no class has as many: of each image, the class that it is predicted
THINGS = 3  # in places that decide, at most, whose whole effect is measured
EXCHANGE = (("", "mean"), ("_low", "low"), ("_high", "high"), ("_n", "n"))  # columns of it
P_VALUES = "select p from attribute_effects where run_id = $run"
CLAIMS = ("probes", "property_claims", "transplants", "place_claims", "segment_claims")


@stage("explained", also=CLAIMS)
@torch.no_grad()
def look_beyond_names(run: Run, images: Sequence[Shard], predicted: Sequence[Shard]) -> Rows:
    """Probes, transplants and the explained share of a run, a claim a row, and the answers that they rest on."""
    sample = drawn(images, predicted)
    subjects = subjects_of(sample.p)
    pooled = not subjects and len(sample.p) >= 2 * SIDE
    found: dict[str, list[dict[str, Any]]] = {fact: [] for fact in ("explained", *CLAIMS)}
    if (subjects or pooled) and min(sample.images.shape[1:3]) >= SMALLEST:
        look = look_at(run, sample, subjects)
        others: list[float] = query(run.root, P_VALUES, {"run": run.id})["p"].to_pylist()
        for k in subjects:
            effects, parts = (_place_effects(look, there.get(k), k) for there in (look.exchanged, look.segmented))
            family = [*others, *(effect.p for effect in (*effects, *parts))]
            columns = np.full(len(sample.ids), k)
            asked = list(_probe_rows(run.classes[k], look, columns))
            places, marks = _place_rows(run.classes[k], look, k, effects, others)
            properties = list(_property_rows(run.classes[k], look, columns, family, marks))
            pasted = list(_transplant_rows(run.classes[k], look, k))
            keep_probed(asked, properties, sample)
            if k in look.exchanged:
                keep_pasted(pasted, places, sample, look.exchanged[k].places)
            found["probes"] += asked
            found["property_claims"] += properties
            found["transplants"] += pasted
            found["place_claims"] += places
            found["segment_claims"] += _segment_rows(run.classes[k], look, k, parts, others)
            found["explained"] += _explained_rows(run.classes[k], look, k)
        if pooled:
            own = sample.p.argmax(1)
            asked, properties = list(_probe_rows(OWN, look, own)), list(_property_rows(OWN, look, own, others))
            keep_probed(asked, properties, sample)
            found["probes"] += asked
            found["property_claims"] += properties
    return {fact: {name: [row[name] for row in rows] for name in FACTS[fact].schema.names} for fact, rows in found.items()}


def _probe_rows(name: str, look: Look, columns: Columns) -> Iterator[dict[str, Any]]:
    before, tried = look.of(columns)
    for one in tried:
        for direction, answers, strengths in (("down", one.down, one.doses.strengths[0]), ("up", one.up, one.doses.strengths[1])):
            for i, after in enumerate(answers):
                yield {
                    "image_id": look.sample.ids[i],
                    "class": name,
                    "probe": one.probe,
                    "direction": direction,
                    "strength": float(strengths[i]),
                    "counted": bool(one.doses.counted[i]),
                    "p_before": float(before[i]),
                    "p_after": float(after),
                    "moved_png": None,
                }


def _property_rows(
    name: str, look: Look, columns: Columns, family: list[float], marks: Floats | None = None
) -> Iterator[dict[str, Any]]:
    if not look.tried:
        return
    n, (before, tried) = len(look.tried[0].down), look.of(columns)
    names = (look.seen[:n] > 0.5).astype(float) if look.seen.shape[1] else None
    given = _is_labelled(look.sample.labels[:n], name)
    shown = None if marks is None else marks[:n]
    for found in probes.findings(tried, before[:n], look.table[:n], names, family, given, shown):
        yield {
            "class": name,
            "property": found.property,
            **_columns(found.effect),
            "down": found.down.mean,
            "up": found.up.mean,
            "size": found.size,
            "in_data": found.in_data,
            "association": found.association,
            "association_p": found.association_p,
            "kind": found.kind or None,
            "through": found.through or None,
            "tied": list(found.tied),
            "moves": json.dumps(found.moves),
        }


def _is_labelled(labels: Sequence[str | None], name: str) -> Floats | None:
    """1 where an image is labelled so, the mean where its label is unknown; None where no image has a label."""
    known = [None if label is None else label == name for label in labels]
    return mean_where_unknown(known) if any(value is not None for value in known) else None


def _columns(effect: Effect) -> dict[str, Any]:
    return {"effect": effect.mean, "low": effect.low, "high": effect.high, "p": effect.p, "n": effect.n}


def _place_effects(look: Look, there: Exchanged | None, k: int) -> list[Effect]:
    return [] if there is None else transplant.place_effects(there.after[..., k], look.sample.p[there.rows, k], there.who)


def _transplant_rows(name: str, look: Look, k: int) -> Iterator[dict[str, Any]]:
    if (there := look.exchanged.get(k)) is None:
        return
    ids, p = [look.sample.ids[i] for i in there.rows], look.sample.p[there.rows, k]
    for place, answers in enumerate(there.after[..., k]):
        for receiver, donors, after in zip(there.who.receivers, there.who.donors, answers, strict=True):
            for donor, value in zip(donors, after, strict=True):
                if donor >= 0:
                    yield {
                        "image_id": ids[receiver],
                        "donor_id": ids[donor],
                        "class": name,
                        "place": place,
                        "other": bool((p[donor] > 0.5) != (p[receiver] > 0.5)),
                        "p_before": float(p[receiver]),
                        "p_after": float(value),
                        "pasted_png": None,
                    }


def _place_rows(
    name: str, look: Look, k: int, effects: list[Effect], others: list[float]
) -> tuple[list[dict[str, Any]], Floats | None]:
    """A claim a place; and (N, M), which images carry what decides in a corner, a column each such thing."""
    if (there := look.exchanged.get(k)) is None or there.grid is None:
        return [], None
    framing, rows, marks = transplant.framing(look.sample.images), [], []
    for place, (row, whole) in enumerate(_judged(name, look, there, k, effects, others)):
        rows.append({"class": name, "place": place, "grid": there.grid, "framing": framing, **row})
        if whole is not None and transplant.in_corner(place, there.grid):
            marks.append(whole.carries.astype(float))
    return rows, np.unique(marks, axis=0).T if marks else None


def _segment_rows(name: str, look: Look, k: int, effects: list[Effect], others: list[float]) -> Iterator[dict[str, Any]]:
    if (there := look.segmented.get(k)) is None:
        return
    for part, (row, _) in zip(there.parts, _judged(name, look, there, k, effects, others), strict=True):
        yield {"class": name, "segment": part, **row}


def _judged(
    name: str, look: Look, there: Exchanged, k: int, effects: list[Effect], others: list[float]
) -> Iterator[tuple[dict[str, Any], transplant.Exchange | None]]:
    """What is claimed of each place: its effect, what of it has no name, whether it goes beyond the label, its whole effect; and
    what that rests on, where it was asked."""
    before, after, seen = look.sample.p[there.rows, k], there.after[..., k], look.seen[there.rows]
    left, held = effects, np.zeros((0, len(effects)), np.bool_)
    if there.named is not None:
        left = transplant.beyond_names(after, before, there.named, seen, there.who)
        held = transplant.cells_of(there.named, seen, there.who)
    decides = transplant.deciding(effects, others)
    unnamed = transplant.unnamed_places(effects, left, others, there.grid)
    beyond = _beyond_label(look.sample, name, k, there, unnamed)
    lone = unnamed if beyond is None else unnamed & beyond
    whole = _exchange_effects(look, there, k, _things(lone, effects, there.grid))
    for place, (effect, rest) in enumerate(zip(effects, left, strict=True)):
        thing = whole.get(place)
        row = {
            **_columns(effect),
            "residual": rest.mean,
            "residual_low": rest.low,
            "residual_high": rest.high,
            "decides": bool(decides[place]),
            "unnamed": bool(unnamed[place]),
            "attributes": [attribute for attribute, where in zip(look.attributes, held, strict=False) if where[place]],
            "oracle": there.named is not None,
            "beyond_label": None if beyond is None else bool(beyond[place]),
            **{f"exchange{end}": None if thing is None else getattr(thing.effect, part) for end, part in EXCHANGE},
        }
        yield row, thing


def _things(lone: NDArray[np.bool_], effects: Sequence[Effect], grid: int | None) -> list[NDArray[np.int64]]:
    """Places that are one thing each: cells that touch; a segment is one by itself."""
    return transplant.things(lone, effects, grid) if grid is not None else [np.array([i]) for i in np.flatnonzero(lone)]


def _exchange_effects(
    look: Look, there: Exchanged, k: int, things: Sequence[NDArray[np.int64]]
) -> dict[int, transplant.Exchange]:
    """By place: how much what decides there decides, all of the thing that the place is a part of. Of the strongest THINGS."""
    if look.ask is None:
        return {}
    ask, images, ids = look.ask, look.sample.images[there.rows], [look.sample.ids[i] for i in there.rows]
    found: dict[int, transplant.Exchange] = {}
    for places in things[:THINGS]:
        whole = there.places[places].max(0)
        effect = transplant.exchange(lambda x: ask(x)[:, k], images, ids, there.who, whole)
        found |= {} if effect is None else dict.fromkeys(places.tolist(), effect)
    return found


def _beyond_label(sample: Sample, name: str, k: int, there: Exchanged, asked: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Which of the places that are asked about go beyond the label, of the images that have one; None where none has."""
    labels = [sample.labels[i] for i in there.rows]
    known = np.array([label is not None for label in labels])
    if not known.any():
        return None
    rows, second = there.rows[known], np.array([label == name for label in labels], float)[known]
    places = there.places[asked] if there.places.ndim == 3 else there.places[asked][:, known]
    beyond = np.zeros(len(asked), np.bool_)
    beyond[asked] = transplant.beyond_label(sample.images[rows], second, sample.p[rows, k], places)
    return beyond


def named_sets(sample: Sample, seen: Floats, name: str) -> dict[str, Floats]:
    """What the user named, as numbers of each image: the label, then with the attributes, by the oracle, seen (N, A), and by
    annotations."""
    sets: dict[str, Floats] = {}
    columns: list[NDArray[np.float64]] = []
    if (labelled := _is_labelled(sample.labels, name)) is not None:
        columns.append(labelled[:, None])
        sets["label"] = columns[0]
    attributes = [(seen > 0.5).astype(float), *(values[:, None] for values in sample.annotations.values())]
    if any(part.shape[1] for part in attributes):
        sets["label and attributes" if columns else "attributes"] = np.column_stack([*columns, *attributes])
    return sets


def _explained_rows(name: str, look: Look, k: int) -> Iterator[dict[str, Any]]:
    named = named_sets(look.sample, look.seen, name)
    if not named or len(look.sample.ids) < FEW:
        return
    try:
        found = explained(
            look.sample.p[:, k], named, {"properties": look.table, "generic features": generic_features(look.sample.images)}
        )
    except UserError:  # the same answer to every image: nothing to explain
        return
    missing, low, high = found.missing
    for share in found.shares:
        yield {
            "class": name,
            "inputs": share.inputs,
            "r2": share.r2,
            "low": share.low,
            "high": share.high,
            "model": share.model,
            "names": share.inputs == found.names.inputs,
            "ceiling": share.inputs == found.ceiling.inputs,
            "missing": missing,
            "missing_low": low,
            "missing_high": high,
            "cleared": found.cleared,
            "why": found.why,
            "n": len(look.sample.ids),
        }
