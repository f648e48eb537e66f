"""What of the data's quality needs more than SQL: labels that look wrong, and files that other splits hold, too."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cfx.images import Refused
from tasks.data.files import is_inside, read, stamps, whole_of
from tasks.data.ingest import HASHED_WHOLE, DataConfig, other_splits
from tasks.run import Run
from tasks.stage import Rows, stage
from warehouse.facts.schema import SHARED_FILES
from warehouse.facts.shards import Shard, read_shard


def finds_label_issues() -> bool:
    """Whether cleanlab, the extra `quality`, is installed. Without it an audit says nothing of wrong labels."""
    return find_spec("cleanlab") is not None


@stage("label_issues")
def find_label_issues(run: Run, images: Sequence[Shard], predicted: Sequence[Shard]) -> Rows:
    """Labels that confident learning takes for wrong, by the audited classifier's own answers.

    Those answers know nothing that the classifier does not: where it is wrong, it accuses labels that are right.
    """
    labels = {row["image_id"]: row["label"] for shard in images for row in read_shard(shard, ["image_id", "label"]).to_pylist()}
    rows = [row for shard in predicted for row in read_shard(shard).to_pylist() if labels[row["image_id"]] in run.classes]
    given = np.array([run.classes.index(labels[row["image_id"]]) for row in rows], np.int64)
    issues, quality = confident_learning(given, np.array([row["probabilities"] for row in rows], np.float64))
    return {
        "image_id": [row["image_id"] for row in rows],
        "label": [run.classes[label] for label in given],
        "suggested": [row["class"] for row in rows],
        "quality": quality.tolist(),
        "issue": issues.tolist(),
    }


def confident_learning(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which labels (N,) of int look wrong beside probabilities (N, K), and how well each goes with its own, 0 to 1 (cleanlab).

    Nothing is found where all labels are of one class, or where there are none: there is no class to be taken for.
    """
    if not len(labels):
        return np.zeros(0, np.bool_), np.zeros(0)
    if len(np.unique(labels)) < 2:
        return np.zeros(len(labels), np.bool_), probabilities[np.arange(len(labels)), labels]
    from cleanlab.filter import find_label_issues as issues_of
    from cleanlab.rank import get_label_quality_scores

    rows = probabilities / probabilities.sum(1, keepdims=True)  # float32 in the facts: cleanlab asks for sums of 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes that no image is labelled as
        found = issues_of(labels, rows, n_jobs=1)
        return np.asarray(found, np.bool_), np.asarray(get_label_quality_scores(labels, rows, method="self_confidence"))


@stage("shared_files")
def find_shared_files(run: Run, images: Sequence[Shard]) -> Rows:
    """Audited images that the table has in other splits, too: by name, or byte for byte. Only files of a size that an audited one
    has are read, and nothing but names is compared where these come to more than 1 GiB, lie in archives or in an object store."""
    data = run.config.data
    audited = {row["path"]: row["image_id"] for shard in images for row in read_shard(shard, ["path", "image_id"]).to_pylist()}
    others = other_splits(data)
    splits = sorted(pc.unique(others["split"]).to_pylist())
    rows = [_shared(split, others.filter(pc.equal(others["split"], split)), audited, data) for split in splits]
    return {name: [row[name] for row in rows] for name in SHARED_FILES.schema.names}


def _shared(split: str, rows: pa.Table, audited: dict[str, str], data: DataConfig) -> dict[str, object]:
    """A row of `shared_files`."""
    names = sorted({name for name in rows["file"].to_pylist() if name})
    pairs = {(name, name) for name in names if name in audited}
    first = {image_id: path for path, image_id in audited.items()}
    pairs |= {(first[found], name) for name, found in _hashes(names, audited, data) if found in first}
    listed = sorted(pairs)
    return {
        "other_split": split,
        "files": len(names),
        "paths": [path for path, _ in listed],
        "twins": [twin for _, twin in listed],
    }


def _hashes(names: Sequence[str], audited: dict[str, str], data: DataConfig) -> Iterator[tuple[str, str]]:
    """The names and SHA-256 of those files that may be the same as an audited one."""
    if not isinstance(data.images, Path):
        return
    alone = [name for name in names if is_inside(name) and whole_of(name)[1] is None]
    known = {size for size, _ in stamps(data.images, audited).values()}
    alike = {name: size for name, (size, _) in stamps(data.images, alone).items() if size > 0 and size in known}
    if sum(alike.values()) > HASHED_WHOLE:
        return
    for name, size in alike.items():
        try:
            yield name, hashlib.sha256(read(data.images, name, size)).hexdigest()
        except (Refused, OSError):  # it cannot be read: nothing was seen of it
            continue
