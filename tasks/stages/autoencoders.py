"""The autoencoders of IM1 and IM2, trained once a run on the images under audit, by the class that each is labelled with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from cfx.autoencoder import Autoencoders, AutoencoderTraining, load_autoencoders, train_autoencoders
from tasks.stages.predict import pictures
from warehouse.facts.shards import Shard, read_shard
from warehouse.facts.storage import cache_of


@cache
def autoencoders_for(path: Path, device: str) -> Autoencoders:
    """The autoencoders in this file, loaded once a process."""
    return load_autoencoders(path, device)


def ensure_autoencoders(
    root: Path,
    run_id: str,
    images: Sequence[Shard],
    predicted: Sequence[Shard],
    training: AutoencoderTraining,
    classes: Sequence[str],
    device: str,
) -> Path:
    """The file of this run's autoencoders, trained unless it is there. An image without a label is of its predicted class."""
    folder = root / "autoencoders"
    path = (folder if isinstance(folder, Path) else cache_of(folder)) / f"{run_id}.safetensors"
    if path.is_file():
        return path
    labels = [label for shard in images for label in read_shard(shard, ["label"])["label"].to_pylist()]
    said = [name for shard in predicted for name in read_shard(shard, ["class"])["class"].to_pylist()]
    known = [label if label in classes else name for label, name in zip(labels, said, strict=True)]
    return train_autoencoders(pictures(images), known, classes, training, path, device)
