"""Whether a black box still answers as it did when the run that goes on, or is used again, was made.

What answers behind an address, or what a function loads, may have been exchanged without a word. Facts of two models would then
stand in one run, or those of yesterday's model for today's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from cfx.classifiers import BlackBox
from cfx.errors import UserError
from tasks.run import Run
from tasks.shard_images import read_images
from warehouse.facts.query_ledger import BudgetSpent
from warehouse.facts.shards import Shard, find_shard, read_shard

QUERIED = 4  # images; they count in the budget
DIFFERENT = 0.05  # in probability: servers in half precision, in batches of any size, differ by less

_log = logging.getLogger("cfx.stages")


def query_again(run: Run, images: Sequence[Shard]) -> None:
    """Query a black box again for a few images whose answers are facts of this run; nothing to do for a run that begins.

    Raises UserError, naming image and answers, where it says something else now.
    """
    known = next(((one, done) for one in images if (done := find_shard(run.root, "predictions", run.id, one.key))), None)
    classifier = run.classifier() if known is not None else None
    if known is None or not isinstance(classifier, BlackBox):
        return
    ids, x = read_images(known[0])
    kept = dict(zip(*read_shard(known[1], ["image_id", "probabilities"]).to_pydict().values(), strict=True))
    try:
        answers = classifier.anew(x[:QUERIED]).tolist()
    except BudgetSpent:
        _log.warning("run=%s no budget is left to see whether %s still answers as before", run.id, classifier.name)
        return
    for image, now in zip(ids, answers, strict=False):
        before = kept[image]
        if max(abs(a - b) for a, b in zip(now, before, strict=True)) > DIFFERENT:
            raise UserError(
                f"classifier: {classifier.name} has changed since run {run.id} was begun: to image {image[:12]} it answered "
                f"({_row(before)}) then and ({_row(now)}) now. Set `version:` to a new word, and it is audited as another; "
                "of a function, `files:` with what it reads tells by itself"
            )


def _row(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)
