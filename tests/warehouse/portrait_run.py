"""A small audit's facts with rendered portraits for pictures: what the report is looked at and tested with.

The counterfactual is the portrait drawn again with `smile` toggled, and with `glasses` too when the classifier is planted;
the oracle's numbers are the true attributes with a little noise, the null arm is that noise alone.
"""

from __future__ import annotations

import hashlib
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from facts import place_rows, property_rows, share_rows
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from cfx.portraits import ATTRIBUTES, Portrait, region, render, sample
from warehouse.facts.shards import write_shard

CLASSES = ["neutral", "smiling"]
Picture = NDArray[np.uint8]


def write_portrait_run(
    root: Path,
    run_id: str = "planted-demo",
    n: int = 64,
    planted: bool = True,
    names: dict[str, str] | None = None,
    file_name: str = "portraits/{:05d}.png",
    status: str = "finished",
    size: int = 64,
    reason: str | None = None,
    harmed: bool = False,
    labels: dict[str, str] | None = None,
    drawn: bool = True,
    **beyond: Any,
) -> None:
    """Write all facts of one run. `names` renames attributes; glasses follow the target only if `planted`.

    harmed: the classifier is wrong on every other image where glasses and smile do not go together, as the planted one is;
    labels: what people call names; drawn: whether the edits have images; beyond: of `write_beyond`.
    """
    rng = np.random.default_rng(7)
    called = [(names or {}).get(attribute, attribute) for attribute in ATTRIBUTES]
    images, predictions, explanations, attributes, effects, edits, saliency = [], [], [], [], [], [], []
    for i in range(n):
        portrait = sample(np.random.default_rng([7, i]))  # the same images in every run
        target = int(not portrait.has("smile"))
        picture = render(portrait, size)
        image_id = hashlib.sha256(picture.tobytes()).hexdigest()
        source = CLASSES[1 - target]
        probability = float(rng.beta(12, 1))
        where = {"image_id": image_id, "split": "test", "path": file_name.format(i)}
        wrong = harmed and portrait.has("glasses") != portrait.has("smile") and i % 2 == 0
        images.append(
            where
            | {"width": 178, "height": 218, "label": source, "png": _png(picture)}
            | {f"a_{name}": portrait.has(attribute) for name, attribute in zip(called, ATTRIBUTES, strict=True)}
        )
        probabilities = [probability, 1 - probability] if target else [1 - probability, probability]
        said = (
            {"class": CLASSES[target], "probabilities": probabilities[::-1]}
            if wrong
            else {"class": source, "probabilities": probabilities}
        )
        predictions.append({"image_id": image_id} | said)
        for position in range(1, len(called)) if i < 40 else ():  # all but the smile, each edited alone
            reaction = 0.4 if planted and position == 1 else 0.0
            on = not portrait.attributes[position]
            effects.append(_edited(image_id, called[position], on, rng.normal(reaction, 0.05)))
        if i < 40:
            edits.append(_drawn_edit(image_id, called[1], portrait, size))
        where_smile = np.repeat(region(portrait, "smile", size)[..., None], 3, axis=2).astype(np.uint8) * 255
        saliency.append({"image_id": image_id, "map": "grad_cam", "png": _png(where_smile)})
        for arm in ("guided", "null"):
            flipped = bool(arm == "guided" and rng.random() < 0.95)
            moved = _moved(portrait, target, planted, rng) if flipped else portrait
            picture_cf = _drifted(render(moved, size), rng)
            keys = {"image_id": image_id, "method": "dime", "arm": arm, "seed": 0}
            asked = {"source": source, "target": CLASSES[target], "p_source": probability, "p_target": 1 - probability}
            explanations.append(keys | asked | _measured(arm, flipped, picture, picture_cf, rng))
            p, q = _seen(portrait, rng), _seen(moved, rng)
            row: dict[str, Any] = dict(keys)
            for letter, values in (("p", p), ("q", q), ("d", q - p)):
                row |= {f"{letter}_{name}": float(value) for name, value in zip(called, values, strict=True)}
            attributes.append(row)
    tables: dict[str, list[dict[str, Any]]] = {"images": images, "predictions": predictions, "explanations": explanations}
    tables |= {"attributes": attributes, "effects": effects, "saliency": saliency}
    for fact, rows in tables.items():
        write_shard(root, fact, run_id, "00000", _columns(rows))
    if drawn:
        write_shard(root, "edits", "edits-demo", f"{size:03}-{n:05}", _columns(edits))
    write_beyond(root, run_id, images, **beyond)
    write_shard(root, "rejected", run_id, "00000", REJECTED)
    _write_run(root, run_id, "planted" if planted else "clean", n, called[0], status, reason, labels)


REJECTED = {
    "path": ["portraits/notes.png", "portraits/half.jpg", "portraits/dot.png", "portraits/copy.png", "portraits/copy2.png"],
    "stage": ["ingest"] * 5,
    "reason": ["unreadable", "truncated", "too_small", "duplicate", "duplicate"],
    "error": [
        "cannot identify image file",
        "image file is truncated (12 bytes not processed)",
        "1 x 1 pixels; at least 16 x 16 are needed",
        "same bytes as portraits/00000.png",
        "same bytes as portraits/00003.png",
    ],
}


def write_beyond(
    root: Path,
    run_id: str,
    images: list[dict[str, Any]],
    share: float = 0.95,
    properties: dict[str, float] | None = None,
    places: dict[int, float] | None = None,
    pasted: int | None = None,
) -> None:
    """What needs no name: by default the names explain the answers, and no property and no place does.

    share: R2 of the names, of a ceiling of .96; properties: what probes of them do; places: what these cells of 64 do. The mouth
    decides, by the label. pasted: a cell that transplants are written of; those of every third image speak for the class.
    """
    colours = np.array([np.asarray(Image.open(io.BytesIO(image["png"]))).mean((0, 1)) for image in images]) / 255
    ids = [image["image_id"] for image in images]
    measured = {"m_brightness": colours.mean(1), "m_warmth": np.log2(colours[:, 0] / colours[:, 2])}
    write_shard(root, "properties", run_id, "00000", {"image_id": ids, **measured})
    about: dict[str, Any] = {"class": CLASSES[1], "n": len(images)}
    write_shard(root, "explained", run_id, "all", share_rows(share, **about))
    claimed = {"brightness": 0.0, "warmth": 0.0} | (properties or {})
    named = {52: ["smile"], 51: ["smile"]}
    cells = {52: 0.4, 51: 0.3} | (places or {})
    write_shard(root, "property_claims", run_id, "all", property_rows(claimed, **about))
    write_shard(root, "place_claims", run_id, "all", place_rows(cells, named, n=len(images), name=CLASSES[1]))
    if pasted is not None:
        keys = {"image_id": ids, "donor_id": ids[1:] + ids[:1], "class": [CLASSES[1]] * len(ids), "place": [pasted] * len(ids)}
        after = [0.9 if (i + 1) % len(ids) % 3 == 0 else 0.3 for i in range(len(ids))]
        moved = {"other": [True] * len(ids), "p_before": [0.5] * len(ids), "p_after": after}
        write_shard(root, "transplants", run_id, "all", keys | moved)


def _edited(image_id: str, attribute: str, switched_on: bool, reaction: float) -> dict[str, Any]:
    """An edit of one attribute alone that moves P(smiling) by `reaction` when it switches the attribute on."""
    after = 0.5 + (reaction if switched_on else -reaction)
    return {
        "image_id": image_id,
        "attribute": attribute,
        "edits": "edits-demo",
        "switched_on": switched_on,
        "counted": True,
        "side": 0.02,
        "probabilities_before": [0.5, 0.5],
        "probabilities_sham": [0.5, 0.5],
        "probabilities_after": [1 - after, after],
        "probabilities_pasted": [1 - after, after],
    }


def _drawn_edit(image_id: str, attribute: str, portrait: Portrait, size: int) -> dict[str, Any]:
    """The picture of an edit: the glasses put on or off, and nothing else."""
    edited, picture = (_png(render(which, size)) for which in (portrait.toggled("glasses"), portrait))
    return {
        "image_id": image_id,
        "attribute": attribute,
        "switched_on": not portrait.has("glasses"),
        "confirmed": True,
        "side": 0.02,
        "side_attribute": None,
        "mask_fraction": 0.1,
        "nfe_forward": 50,
        "seconds": 1.0,
        "png": edited,
        "sham_png": picture,
        "pasted_png": edited,
        "l1": 0.01,
        "sham_l1": 0.0,
    }


def _moved(portrait: Portrait, target: int, planted: bool, rng: np.random.Generator) -> Portrait:
    moved = portrait.toggled("smile")
    if planted and portrait.has("glasses") != bool(target) and rng.random() < 0.6:
        moved = moved.toggled("glasses")
    return moved.toggled("rosy_cheeks") if rng.random() < (0.06 if planted else 0.0) else moved


def _seen(portrait: Portrait, rng: np.random.Generator) -> NDArray[np.float64]:
    """The oracle's probabilities: the truth, a little unsure."""
    truth = np.array(portrait.attributes, dtype=np.float64)
    return np.clip(truth * 0.94 + 0.03 + rng.normal(0, 0.03, len(truth)), 0.001, 0.999)


def _drifted(picture: Picture, rng: np.random.Generator) -> Picture:
    """What noising and denoising does: a little softer, a little shifted in colour."""
    soft = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(0.45)), dtype=np.float64)
    return np.clip(soft + rng.normal(0, 2.0, 3) + rng.normal(0, 1.5, picture.shape), 0, 255).astype(np.uint8)


def _measured(arm: str, flipped: bool, x: Picture, x_cf: Picture, rng: np.random.Generator) -> dict[str, Any]:
    """What an explanation's row says beyond its keys and its question."""
    change = (x_cf.astype(np.float64) - x) / 255
    changed = Image.fromarray((np.abs(change).max(axis=2) > 0.1).astype(np.uint8) * 255)
    mask = np.asarray(changed.filter(ImageFilter.MaxFilter(5)))
    after = float(rng.beta(14, 1)) if flipped else float(rng.uniform(0.02, 0.45))
    return {
        "attempt": 0,
        "p_source_cf": 1 - after,
        "p_target_cf": after,
        "flipped": flipped,
        "flipped_8bit": flipped,
        "judge_flipped": bool(flipped and rng.random() < 0.93),
        "l1": float(np.abs(change).mean()),
        "l2": float(np.sqrt((change**2).sum())),
        "linf": float(np.abs(change).max()),
        "mask_fraction": float((mask > 0).mean()),
        "nfe_forward": 36,
        "nfe_backward": 12 if arm == "guided" else 0,
        "seconds": float(rng.uniform(0.4, 0.6)),
        "device": "cpu",
        "png": _png(x_cf),
        "mask_png": _png(mask),
    }


def _write_run(
    root: Path,
    run_id: str,
    name: str,
    n: int,
    target_attribute: str,
    status: str,
    reason: str | None,
    labels: dict[str, str] | None,
) -> None:
    began = datetime(2025, 11, 22, 17, 4, 11, tzinfo=UTC)
    counts: dict[str, int | None] = dict.fromkeys(("attempted", "explained", "flipped", "rejected"))
    config = {"name": name, "data": {"folder": "portraits"}, "ladder": [{"method": "dime", "tau": 60, "scale": 8.0}]}
    config |= {"labels": labels} if labels else {}
    started: dict[str, Any] = {
        "name": name,
        "status": "started",
        "reason": None,
        "started": began,
        "finished": None,
        "config": json.dumps(config),
        "config_hash": hashlib.sha256(name.encode()).hexdigest(),
        "fingerprints": json.dumps(
            {part: hashlib.sha256(part.encode()).hexdigest() for part in ("classifier", "data", "prior", "oracle", "judge")}
        ),
        "code_version": "0.1.0+3f2a9c1",
        "packages": json.dumps({"duckdb": "1.5.6", "numpy": "2.4.6", "torch": "2.13.0"}),
        "seeds": [0],
        "hardware": "cpu, 2 cores, x86_64",
        "classes": CLASSES,
        "target_attribute": target_attribute,
        "method": "dime",
        "margin": 0.05,
        "warnings": [],
    }
    write_shard(root, "runs", run_id, "started", _columns([started | counts]))
    if status != "started":
        done = {"attempted": n, "explained": n, "flipped": round(0.95 * n), "rejected": len(REJECTED["path"])}
        finished = started | {"status": status, "reason": reason, "finished": began + timedelta(seconds=97)} | done
        write_shard(root, "runs", run_id, status, _columns([finished]))


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _png(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
