"""The prediction stage: what the classifier under audit says of each image."""

from __future__ import annotations

from tasks.run import Run
from tasks.shard_images import read_images
from tasks.stage import Rows, stage
from warehouse.facts.shards import Shard


@stage("predictions")
def predict(run: Run, images: Shard) -> Rows:
    """Class and probabilities of each image of one shard."""
    ids, x = read_images(images)
    probabilities = run.probabilities(x)
    return {
        "image_id": ids,
        "class": [run.classes[i] for i in probabilities.argmax(1).tolist()],
        "probabilities": probabilities.tolist(),
    }
