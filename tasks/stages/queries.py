"""The queries of a run's black boxes, from their ledgers to the fact `queries`."""

from __future__ import annotations

from cfx.classifiers import named
from tasks.black_boxes import answers_of, file_of, ledger_of, tag_of
from tasks.run import Run
from warehouse.facts.shards import find_shard, write_shard


def write_queries(run: Run) -> None:
    """Write the calls to a run's black boxes that are not yet among its facts: one more shard of `queries` a black box."""
    answers = answers_of(run.root, run.id)
    for config in (run.config.classifier, run.config.judge):
        if config is None or config.access == "torch" or not file_of(config, answers).is_file():
            continue
        tag, first = tag_of(config), 1
        while shard := find_shard(run.root, "queries", run.id, f"{tag}-{first}"):
            first += shard.rows  # calls are numbered without gaps
        rows = ledger_of(config, answers).calls(after=first - 1)
        if rows:
            n = len(rows["call"])
            write_shard(run.root, "queries", run.id, f"{tag}-{first}", rows | {"classifier": [named(config)] * n})
