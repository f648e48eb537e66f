"""BDD100K (Yu et al. 2020) and BDD-OIA (Xu et al. 2020): driving scenes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from cfx.errors import UserError
from warehouse.facts.storage import Root

CATEGORIES = (
    "bicycle", "bus", "car", "motorcycle", "pedestrian", "rider", "traffic light", "traffic sign", "train", "truck",
)  # fmt: skip
_FORMERLY = {"bike": "bicycle", "motor": "motorcycle", "person": "pedestrian"}  # in the labels of 2018
_SCENE = ("weather", "scene", "timeofday")
_ACTIONS = ("forward", "stop", "left", "right")
_REASONS = 21
_READ, _BATCH = 2**20, 4096
_OIA_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def bdd100k(folder: Root) -> Iterator[pa.Table]:
    """`images/100k/<split>` and the labels of 2018 or 2020 (`labels/bdd100k_labels_images_…json`, `labels/det_20/det_…json`).

    weather, scene and timeofday are text, for labels; each category is yes where one of its objects is in the image.
    """
    found = False
    for part, split in (("train", "train"), ("val", "validation")):
        paths = (folder / f"labels/bdd100k_labels_images_{part}.json", folder / f"labels/det_20/det_{part}.json")
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            continue
        found, batch = True, []
        for frame in items(path):
            batch.append(frame)
            if len(batch) == _BATCH:
                yield _scenes(batch, part, split)
                batch = []
        yield _scenes(batch, part, split)
    if not found:
        raise UserError(f"{folder} has no labels/bdd100k_labels_images_train.json or labels/det_20/det_train.json")


def _scenes(frames: list[dict[str, Any]], part: str, split: str) -> pa.Table:
    scene = {name: pa.array([(frame.get("attributes") or {}).get(name) for frame in frames], pa.string()) for name in _SCENE}
    seen = [{_FORMERLY.get(item["category"], item["category"]) for item in frame.get("labels") or []} for frame in frames]
    fixed = {"file": pa.array([f"images/100k/{part}/{frame['name']}" for frame in frames], pa.string())}
    fixed["split"] = pa.array([split] * len(frames), pa.string())
    return pa.table(fixed | scene | {name: pa.array([name in one for one in seen], pa.bool_()) for name in CATEGORIES})


def bdd_oia(folder: Root) -> Iterator[pa.Table]:
    """`data/*.jpg` and `<split>_25k_images_actions.json`, with `<split>_25k_images_reasons.json` where it is there.

    An action is yes or no; `action` is forward, or stop where the car may not go forward, for labels. Reasons keep their number:
    releases of the data set list their names in different orders. Images marked as confusing are left out, as their authors do.
    """
    found = False
    for part, split in _OIA_SPLITS.items():
        path = folder / f"{part}_25k_images_actions.json"
        if not path.is_file():
            continue
        found = True
        actions = json.loads(path.read_text())
        given = folder / f"{part}_25k_images_reasons.json"
        reasons = {row["file_name"]: row["reason"] for row in json.loads(given.read_text())} if given.is_file() else {}
        answers = {row.get("image_id", row.get("id")): row["category"] for row in actions["annotations"]}
        images = sorted((row["file_name"], answers.get(row["id"])) for row in actions["images"])
        yield _drives([(file, x) for file, x in images if x is not None and not any(x[4:])], reasons, split)
    if not found:
        raise UserError(f"{folder} has no train_25k_images_actions.json; give the folder with `data` and the lists in it")


def _drives(images: list[tuple[str, list[int]]], reasons: dict[str, list[int]], split: str) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "file": pa.array([f"data/{file}" for file, _ in images], pa.string()),
        "split": pa.array([split] * len(images), pa.string()),
        "action": pa.array(["forward" if x[0] else "stop" for _, x in images], pa.string()),
    }
    columns |= {name: pa.array([bool(x[i]) for _, x in images], pa.bool_()) for i, name in enumerate(_ACTIONS)}
    for i in range(_REASONS):
        known = (reasons.get(file) for file, _ in images)
        columns[f"reason_{i:02}"] = pa.array([None if x is None else bool(x[i]) for x in known], pa.bool_())
    return pa.table(columns)


def items(path: Root) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, one at a time: BDD100K's labels are more than a gigabyte. Raises UserError where broken."""
    decoder, text, last = json.JSONDecoder(), "", False
    with path.open("r", encoding="utf-8") as file:
        while not last:
            more = file.read(_READ)
            text, last = text + more, not more
            start = 0
            while True:
                while start < len(text) and text[start] in "[, \r\n\t":
                    start += 1
                try:
                    item, start = decoder.raw_decode(text, start)
                except json.JSONDecodeError:
                    break
                yield item
            text = text[start:]
    if text.strip() != "]":
        raise UserError(f"{path} is not a JSON list to its end; it was cut short or is of another data set")
