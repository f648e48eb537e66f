"""The prediction stage: what the classifier under audit says of each image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from cfx.classifiers import AnyClassifier, BlackBox, ClassifierConfig, TorchClassifier, load_classifier
from cfx.images import decode_png
from cfx.types import Classifier
from tasks.stages.queries import answers_of, black_box_for
from warehouse.facts.shards import Shard, find_shard, read_shard, write_shard


def classifier_for(config: AnyClassifier, device: str, answers: Path | None = None) -> Classifier:
    """The classifier of this configuration, loaded once a process. `answers`: where a run's black boxes keep their ledgers."""
    if config.access != "torch":
        return black_box_for(config, device, answers)
    return _classifier(config.model_dump_json(), device)


@cache  # by JSON, because a network's arguments are a dict and have no hash
def _classifier(config: str, device: str) -> TorchClassifier:
    return load_classifier(ClassifierConfig.model_validate_json(config), device)


def fingerprint(network: nn.Module | Classifier) -> str:
    """SHA-256 over the names and values of a network's parameters and buffers, wherever they were read from.

    Of a black box: of its file, its source, or what its server says of it; an endpoint that changes unannounced is not seen.
    """
    if isinstance(network, BlackBox):
        return network.fingerprint
    assert isinstance(network, nn.Module)
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def image_rows(images: Shard) -> list[str]:
    """The image ids of a shard, in its order."""
    ids: list[str] = read_shard(images, ["image_id"])["image_id"].to_pylist()
    return ids


def read_batch(images: Shard) -> Tensor:
    """The pictures of a shard at audit size: (N, 3, H, W) in [-1, 1]."""
    return decode_png(read_shard(images, ["png"])["png"].to_pylist())


def pictures(images: Sequence[Shard]) -> Tensor:
    """All pictures of these shards, (N, 3, H, W) uint8."""
    return torch.cat([((read_batch(shard) + 1) * 127.5).round().to(torch.uint8) for shard in images if shard.rows])


@torch.no_grad()
def predict_shard(
    root: Path, run_id: str, images: Shard, classifier_config: AnyClassifier, batch_size: int, device: str
) -> Shard:
    """Class and probabilities of each image of one shard."""
    done = find_shard(root, "predictions", run_id, images.key)
    if done is not None:
        return done
    classifier = classifier_for(classifier_config, device, answers_of(root, run_id))
    batches = read_batch(images).split(batch_size)
    probabilities = torch.cat([classifier(x.to(device)).softmax(1).cpu() for x in batches])
    rows = {
        "image_id": image_rows(images),
        "class": [classifier.classes[i] for i in probabilities.argmax(1).tolist()],
        "probabilities": probabilities.tolist(),
    }
    return write_shard(root, "predictions", run_id, images.key, rows)
