"""The intervention stage: each suspected attribute edited alone, and the classifier under audit asked again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfx.attributes.interventions import Interventions, edit_alone
from cfx.attributes.named_edits import NamedEdits, edit_by_word
from cfx.attributes.oracle import Oracle, OracleConfig
from cfx.classifiers import AnyClassifier
from cfx.images import decode_png, encode_png
from cfx.types import Edit
from tasks.stages.attributes import oracle_for
from tasks.stages.explain import Counted
from tasks.stages.predict import classifier_for, image_rows, read_batch
from tasks.stages.prior import denoiser_for
from tasks.stages.prompts import Counting, latent_for
from tasks.stages.queries import answers_of
from tasks.stages.run_record import code_version
from warehouse.facts.shards import Shard, find_shard, read_shard, write_shard
from warehouse.lens.connect import query

EDITING = ("steps", "tau", "scale", "share")  # the settings that an edit depends on


def suspects(root: Path, run_id: str, config: Interventions) -> list[str]:
    """The attributes to edit, in this order: those above the null, then those with the largest effects."""
    sql = "select attribute from ranked_attributes where run_id = $run order by status <> 'above null', rank"
    ranked: list[str] = query(root, sql, {"run": run_id})["attribute"].to_pylist()
    return ranked[: config.attributes] if config.images else []


def edits_id(config: Interventions, fingerprints: str) -> str:
    """The run id of these edits in the fact `edits`: the same for every classifier audited on these images."""
    known = json.loads(fingerprints)
    drawn_by = [config.named.model_dump_json(), known["named"]] if config.named else [str(getattr(config, k)) for k in EDITING]
    parts = [str(known[part]) for part in ("data", "oracle", "prior")] + drawn_by
    return f"edits-{hashlib.sha256(chr(0).join([*parts, code_version()]).encode()).hexdigest()[:10]}"


def first_images(images: Sequence[Shard], limit: int) -> list[int]:
    """How many images of each shard are among the first `limit` of all."""
    taken: list[int] = []
    for shard in images:
        taken.append(min(shard.rows, limit - sum(taken)))
    return taken


def edit_images(
    root: Path,
    run_id: str,
    images: Shard,
    n: int,
    attribute: str,
    prior: Path,
    oracle_config: OracleConfig,
    config: Interventions,
    device: str,
) -> Shard:
    """Edit one attribute alone on the first n images of a shard; `run_id` is that of `edits_id`."""
    oracle = oracle_for(oracle_config, device)
    position = oracle.attributes.index(attribute)
    key = f"{position:04d}-{images.key}-{n}"
    done = find_shard(root, "edits", run_id, key)
    if done is not None:
        return done
    editor = _by_word(config.named, device) if config.named else _by_gradient(prior, config, device)
    ids, x = image_rows(images)[:n], read_batch(images)[:n].to(device)
    rows: dict[str, list[Any]] = {}
    for i, image_id in enumerate(ids):  # one at a time: see `tasks.stages.explain._together`
        started = time.perf_counter()
        edit, evaluated = editor(oracle, x[i : i + 1], position, [image_id])
        row = _row(oracle, x[i : i + 1], position, edit) | {
            "image_id": image_id,
            "nfe_forward": evaluated,
            "seconds": time.perf_counter() - started,
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
    return write_shard(root, "edits", run_id, key, rows)


Editor = Callable[[Oracle, Tensor, int, list[str]], tuple[Edit, int]]  # ... -> the edit, and UNet evaluations in pictures


def _by_gradient(prior: Path, config: Interventions, device: str) -> Editor:
    denoiser = denoiser_for(prior, device).respaced(config.steps)

    def edit(oracle: Oracle, x: Tensor, attribute: int, image_ids: list[str]) -> tuple[Edit, int]:
        counted = Counted(denoiser)
        return edit_alone(counted, oracle, x, attribute, config, image_ids), counted.forward

    return edit


def _by_word(named: NamedEdits, device: str) -> Editor:
    model = latent_for(named.model, device)

    def edit(oracle: Oracle, x: Tensor, attribute: int, image_ids: list[str]) -> tuple[Edit, int]:
        counting = Counting(model.unet)
        return edit_by_word(replace(model, unet=counting), oracle, x, attribute, named, image_ids), counting.evaluated

    return edit


def _row(oracle: Oracle, x: Tensor, position: int, edit: Edit) -> dict[str, Any]:
    """What the oracle says of one edit, of the 8-bit pictures that people see."""
    png, sham_png = encode_png(edit.x_edit)[0], encode_png(edit.x_sham)[0]
    before, after, sham = (oracle(picture)[0].cpu() for picture in (x, decode_png([png]).to(x), decode_png([sham_png]).to(x)))
    change = after - sham
    switched_on = bool(before[position] <= 0.5)
    others = [i for i in range(len(change)) if i != position]
    widest = max(others, key=lambda i: abs(float(change[i])), default=None)
    return {
        "attribute": oracle.attributes[position],
        "switched_on": switched_on,
        "confirmed": bool(after[position] > 0.5) is switched_on and bool(sham[position] > 0.5) is not switched_on,
        "side": 0.0 if widest is None else abs(float(change[widest])),
        "side_attribute": None if widest is None else oracle.attributes[widest],
        "mask_fraction": float(edit.mask.mean()),
        "png": png,
        "sham_png": sham_png,
    } | {f"d_{name}": float(change[i]) for i, name in enumerate(oracle.attributes)}


@torch.no_grad()
def ask_edits(
    root: Path,
    run_id: str,
    images: Shard,
    edited: Shard,
    classifier_config: AnyClassifier,
    config: Interventions,
    batch_size: int,
    device: str,
) -> Shard:
    """What the audited classifier says of one shard of edits; gradients are not needed, so it may be a black box."""
    done = find_shard(root, "effects", run_id, edited.key)
    if done is not None:
        return done
    classifier = classifier_for(classifier_config, device, answers_of(root, run_id))

    def probabilities(pictures: Tensor) -> list[list[float]]:
        answers = [classifier(x.to(device)).softmax(1).cpu() for x in pictures.split(batch_size)]
        return [row for answer in answers for row in answer.tolist()]

    columns = ["image_id", "attribute", "switched_on", "confirmed", "side", "png", "sham_png"]
    table = read_shard(edited, columns).to_pydict()
    place = {image_id: i for i, image_id in enumerate(image_rows(images))}
    n = len(table["image_id"])
    pictures = [read_batch(images)[[place[name] for name in table["image_id"]]], *(decode_png(table[c]) for c in columns[-2:])]
    before, after, sham = (probabilities(x) for x in pictures)
    rows: dict[str, list[Any]] = {name: table[name] for name in ("image_id", "attribute", "switched_on", "side")} | {
        "edits": [edited.run_id] * n,
        "counted": [ok and side <= config.side for ok, side in zip(table["confirmed"], table["side"], strict=True)],
        "probabilities_before": before,
        "probabilities_sham": sham,
        "probabilities_after": after,
    }
    return write_shard(root, "effects", run_id, edited.key, rows)
