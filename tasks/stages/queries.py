"""The queries of a run's black boxes, from their ledgers to the fact `queries`."""

from __future__ import annotations

from collections.abc import Iterator

from cfx.classifiers import named
from tasks.black_boxes import answers_of, file_of, ledger_of, tag_of
from tasks.run import Run
from warehouse.facts.shards import find_shard, write_shard, written


def write_queries(run: Run) -> None:
    """Write the calls to a run's black boxes that are not yet among its facts: one more shard of `queries` a black box, and
    those again that are damaged or gone."""
    answers = answers_of(run.root, run.id)
    for config in (run.config.classifier, run.config.judge):
        if config is None or config.access == "torch" or not file_of(config, answers).is_file():
            continue
        tag, ledger = tag_of(config), ledger_of(config, answers)
        for first, until in _unwritten(run, tag):
            rows = {name: column[: until and until - first] for name, column in ledger.calls(after=first - 1).items()}
            if rows:
                n = len(rows["call"])
                write_shard(run.root, "queries", run.id, f"{tag}-{first}", rows | {"classifier": [named(config)] * n})


def _unwritten(run: Run, tag: str) -> Iterator[tuple[int, int | None]]:
    """The calls that are in no whole shard, as ranges from a call to before another, or to the last: calls have no gaps."""
    there = (path.stem.removeprefix(f"{tag}-") for path in written(run.root, "queries", run.id).get(run.id, []))
    firsts = sorted({1, *(int(first) for first in there if first.isdecimal())})
    for first, until in zip(firsts, [*firsts[1:], None], strict=True):
        shard = find_shard(run.root, "queries", run.id, f"{tag}-{first}")
        start = first + (shard.rows if shard is not None else 0)
        if start != until:
            yield start, until
