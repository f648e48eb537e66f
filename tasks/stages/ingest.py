"""The ingest stage: the listing of a run's data becomes shards of `images`, and of `rejected` for what was refused."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from tasks.data.annotations import FIXED, annotations_of, columns_of, left_out
from tasks.data.ingest import TooManyRejected, admit, paged, selected
from tasks.data.nightly import keep
from tasks.data.seen_files import SeenFiles
from tasks.run import Run
from tasks.stage import Rows, stage
from tasks.stages.surrogate import check_enough
from warehouse.facts.schema import REJECTED
from warehouse.facts.shards import Shard, find_shard, read_shard

_log = logging.getLogger("cfx.stages")


class Part(NamedTuple):
    """The rows of the listing that become one shard."""

    key: str
    rows: pa.Table


@stage("images", also=("rejected",))
def take_in(run: Run, part: Part, seen: SeenFiles) -> Rows:
    """The files of a part that can be used, and why the others cannot; `seen` holds those of the parts before."""
    admitted, rejected = admit(part.rows.to_pylist(), run.config.data, seen)
    if line := paged(admitted):
        _log.warning("run=%s %s", run.id, line)
    images, gone = (
        [row | {"label": run.labels.get(row["label"], row["label"])} for row in rows] for rows in (admitted, rejected)
    )
    names = ["image_id", "split", "path", "width", "height", "label", "png", *part.rows.column_names[FIXED:]]
    return {"images": _columns(images, names), "rejected": _columns(gone, REJECTED.schema.names)}


@stage("annotations")
def take_annotations(run: Run) -> Rows:
    """What is known of images that need not be audited, for CD."""
    path = run.config.data.annotations
    assert path is not None
    rows: Rows = annotations_of(path, run.config.data).to_pydict()
    return rows


def ingest(run: Run) -> list[Shard]:
    """The shards of `images` of the rows selected, `shard_size` rows a shard; one that kept no image is not returned.

    A shard that exists is returned untouched, so a run after a kill ends as an undisturbed one would. Memory holds the images
    of one shard and the table; what duplicates are found by is on disk.
    Raises TooManyRejected as soon as the share of refused files is sure to pass `max_rejected`; their reasons are on disk then.
    """
    keep(run.root, run.config.data)
    if run.config.data.annotations is not None:
        take_annotations(run)
    if line := left_out(columns_of(run.config.data)):
        _log.info("run=%s table=%s %s", run.id, run.config.data.table, line)
    listing, seen, reasons, first = selected(run.config.data), SeenFiles(), Counter[str](), ""
    shards: list[Shard] = []
    for part in _parts(listing, run.config.shard_size):
        images = take_in(run, part, seen)
        done = read_shard(images, ["image_id", "path"])
        seen.update(zip(done["image_id"].to_pylist(), done["path"].to_pylist(), strict=True))
        if (rejected := find_shard(run.root, "rejected", run.id, part.key)) is not None:
            gone = read_shard(rejected, ["path", "reason", "error"]).to_pylist()
            reasons.update(row["reason"] for row in gone)
            first = first or next((f"{row['path']} ({row['error']})" for row in gone), "")
        if reasons.total() > run.config.data.max_rejected * len(listing):
            raise TooManyRejected(run.config.data.max_rejected, reasons, len(listing), run.id, first)
        if images.rows:
            shards.append(images)
    check_enough(run.config.surrogate, sum(images.rows for images in shards))  # before the classifier is queried for nothing
    return shards


def _parts(listing: pa.Table, size: int) -> Iterator[Part]:
    for number, start in enumerate(range(0, len(listing), size)):
        yield Part(f"{number:05d}", listing.slice(start, size))


def _columns(rows: list[dict[str, Any]], names: list[str]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in names}
