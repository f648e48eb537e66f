"""The autoencoders of IM1 and IM2, trained once a run on the images under audit, by the class that each is labelled with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cfx.autoencoder import Autoencoders, load_autoencoders, train_autoencoders
from tasks.networks import kept, state_of
from tasks.run import Run
from tasks.shard_images import pixels
from warehouse.facts.shards import Shard, read_shard
from warehouse.facts.storage import cache_of


def autoencoders_for(path: Path, device: str) -> Autoencoders:
    """The autoencoders in this file."""
    return kept(("autoencoders", *state_of(path), device), lambda: load_autoencoders(path, device))


def trained_autoencoders(run: Run, images: Sequence[Shard], predicted: Sequence[Shard]) -> Path | None:
    """The file of this run's autoencoders, trained unless it is there. An image without a label is of its predicted class."""
    training = run.config.measures.autoencoders
    if training is None:
        return None
    folder = run.root / "autoencoders"
    path = (folder if isinstance(folder, Path) else cache_of(folder)) / f"{run.id}.safetensors"
    if path.is_file():
        return path
    labels = [label for shard in images for label in read_shard(shard, ["label"])["label"].to_pylist()]
    classes = [name for shard in predicted for name in read_shard(shard, ["class"])["class"].to_pylist()]
    known = [label if label in run.classes else name for label, name in zip(labels, classes, strict=True)]
    return train_autoencoders(pixels(images), known, run.classes, training, path, run.device)
