"""An audit in threads of this process: no server, no artifacts, no telemetry; the facts are those of the flow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_fixed

from cfx.masking import scrubbed
from flows import chain
from flows.engine import one_thread, shards_at_a_time
from flows.transient import PAUSE, TRIES, may_pass
from tasks.run import Run
from warehouse.facts.shards import Shard

_log = logging.getLogger("cfx.audit")
Report = Callable[[int, int], None]  # how many shards are done, of how many


class Threads:
    """The chain's work as calls in a pool of threads (see `flows.chain.Work`).

    A call waits for the futures among its inputs in its thread. They were submitted before it, so one of them is always at work.
    """

    def __init__(self, pool: ThreadPoolExecutor, report: Report | None = None) -> None:
        self.pool, self.report = pool, report

    def do(self, stage: Callable[..., Any], run: Run, *inputs: Any) -> Any:
        return _tried(stage, run, *inputs)

    def submit(self, stage: Callable[..., Shard], run: Run, *inputs: Any) -> chain.Future:
        return self.pool.submit(_tried, stage, run, *inputs)

    def map(self, stage: Callable[..., Shard], run: Run, *inputs: Any) -> list[chain.Future]:
        lengths = {len(each) for each in inputs if isinstance(each, list)}
        assert len(lengths) == 1, lengths
        rows = zip(*(each if isinstance(each, list) else [each] * max(lengths) for each in inputs), strict=True)
        return [self.submit(stage, run, *row) for row in rows]

    def all_of(self, futures: Sequence[chain.Future]) -> list[Shard]:
        failures = [error for future in _pooled(futures) if (error := future.exception()) is not None]
        if failures:
            raise failures[0]
        return [future.result() for future in futures]

    def follow(self, name: str, futures: Sequence[chain.Future]) -> None:
        for done, _ in enumerate(as_completed(_pooled(futures)), 1):
            if self.report is not None:
                self.report(done, len(futures))
        self.all_of(futures)

    def audit(self, run: Run) -> str:
        return audit_in_process(run, self.report)

    def publish(self, run: Run, report: Path) -> None:
        """Nobody looks at a process but whoever called it, who gets what was found as an object."""

    def log(self) -> chain.Log:
        return _log


def audit_in_process(run: Run, report: Report | None = None) -> str:
    """Audit in threads, as many shards at a time as the configuration says. Returns the run id; a run that is there is done."""
    with one_thread(), ThreadPoolExecutor(shards_at_a_time(run.config), "cfx") as pool:
        try:
            return chain.audited(run, Threads(pool, report))
        except BaseException:  # an interrupt, too: what has not begun need not
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _tried(stage: Callable[..., Any], run: Run, *inputs: Any) -> Any:
    """What the stage returns, with the shards of its inputs that are futures; a failure that may pass is tried again."""
    ready = [each.result() if hasattr(each, "result") else each for each in inputs]
    again = Retrying(stop=stop_after_attempt(TRIES), wait=wait_fixed(PAUSE), retry=retry_if_exception(may_pass), reraise=True)
    with scrubbed():
        return again(partial(stage, run, *ready))


def _pooled(futures: Sequence[chain.Future]) -> list[Any]:
    return list(futures)
