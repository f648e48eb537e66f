"""What the list of audits says of each: computed once, in the background, and anew when its facts change.

A verdict takes up to a second of computing: a list of hundreds of audits must not wait for all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import duckdb

from cfx.errors import UserError
from warehouse.explorer.lenses import LASTING, Lenses, State, state_of
from warehouse.lens.connect import open_runs
from warehouse.lens.fetch import Row, fetch
from warehouse.lens.gate import verdict_of
from warehouse.lens.settled import settle
from warehouse.report.queries import EVIDENCE, evidence
from warehouse.report.verdict import RESTS_ON, Verdict, verdict_from

GATE = "from gate where run_id = $run order by place, subject"
ACCURACY = EVIDENCE["accuracy"]
READ = ";".join([*(EVIDENCE[name] for name in RESTS_ON), GATE, ACCURACY])
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """An audit in a line. gate: pass, fail, inconclusive, or None without a policy; reasons: why; accuracy: value, low, high, n,
    or None without labels; verdict: None where the facts do not allow one yet."""

    verdict: Verdict | None
    gate: str | None
    reasons: tuple[str, ...]
    accuracy: Row | None


class Summaries:
    """The summaries of a warehouse's runs, safe for several threads."""

    def __init__(self, root: Path, lenses: Lenses) -> None:
        self.root, self.lenses = root, lenses
        self._lock = Lock()
        self._known: dict[str, tuple[State, Future[Summary]]] = {}
        self._worker = ThreadPoolExecutor(1, "summaries")  # one, so that the pages that people wait for have the other cores

    def of(self, run_ids: Sequence[str], patience: float) -> dict[str, Summary]:
        """Those of these runs that are known within so many seconds; the others are on their way."""
        with self._lock:
            asked = {run_id: self._asked(run_id) for run_id in run_ids}
        done, _ = wait(asked.values(), patience)
        return {run_id: future.result() for run_id, future in asked.items() if future in done}

    def _asked(self, run_id: str) -> Future[Summary]:
        now = state_of(self.root, (run_id,), LASTING)
        known = self._known.get(run_id)
        if known is None or known[0] != now:
            known = self._known[run_id] = (now, self._worker.submit(self._summary, run_id))
        return known[1]

    def _summary(self, run_id: str) -> Summary:
        try:
            with closing(open_runs(self.root, self.lenses.with_base(run_id), sql=READ)) as lens:
                settle(lens, run_id)
                rules = fetch(lens, GATE, run=run_id)
                checked = verdict_of(run_id, rules) if rules else None
                accuracy = fetch(lens, ACCURACY, run=run_id)
                found = verdict_from({name: evidence(lens, name, run_id).rows for name in RESTS_ON})
        except (UserError, duckdb.Error) as error:  # damaged, or cut off in the middle: its own page says more
            _log.warning("%s has no summary: %s", run_id, error)
            return Summary(None, None, (), None)
        return Summary(
            found,
            checked.verdict if checked else None,
            checked.reasons if checked else (),
            accuracy[0] if accuracy and accuracy[0]["n"] else None,
        )
