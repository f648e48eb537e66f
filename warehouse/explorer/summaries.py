"""What the list of audits says of each: computed once, in the background, and anew when its facts change.

A verdict takes up to a second of computing: a list of hundreds of audits must not wait for all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import duckdb

from cfx.errors import UserError
from warehouse.explorer.lenses import LASTING, Lenses, State, state_of
from warehouse.lens.connect import left_out_of, open_runs
from warehouse.lens.fetch import Row
from warehouse.lens.gate import verdict_of
from warehouse.lens.settled import settle
from warehouse.report.embedded_numbers import read_block
from warehouse.report.queries import EVIDENCE, evidence
from warehouse.report.render import report_path
from warehouse.report.verdict import RESTS_ON, Verdict, verdict_from

READ = {*RESTS_ON, "rules", "accuracy"}  # questions of the report
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """An audit in a line. gate: pass, fail, inconclusive, or None without a policy; reasons: why; accuracy: value, low, high, n,
    or None without labels; verdict: None where the facts do not allow one yet; damaged: the file that is why."""

    verdict: Verdict | None
    gate: str | None
    reasons: tuple[str, ...]
    accuracy: Row | None
    damaged: str | None = None


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
            known = self._known[run_id] = (now, self._worker.submit(self._computed, run_id))
        return known[1]

    def now(self, run_id: str) -> Summary:
        """That of a run whose lens is open, or is to be opened anyway: it waits for no other run's."""
        state = state_of(self.root, (run_id,), LASTING)
        with self._lock:
            known = self._known.get(run_id)
        if known is not None and known[0] == state and known[1].done():
            return known[1].result()
        lens = self.lenses.of(run_id)
        found = Future[Summary]()
        found.set_result(_summary(run_id, {name: evidence(lens, name, run_id).rows for name in READ}))
        with self._lock:
            self._known[run_id] = (state, found)
        return found.result()

    def _computed(self, run_id: str) -> Summary:
        """From its report where that is not older than its facts; worked out again it takes a second or more."""
        try:
            sql = ";".join(EVIDENCE[name] for name in sorted(READ))
            runs = self.lenses.with_base(run_id)
            if damage := left_out_of(self.root, runs, sql).get(run_id):
                return Summary(None, None, (), None, f"{damage[0]}; {damage[0].way_out}")
            answers = self._of_report(run_id)
            if answers is not None:
                return _summary(run_id, answers)
            with closing(open_runs(self.root, runs, sql=sql)) as lens:
                settle(lens, run_id)
                return _summary(run_id, {name: evidence(lens, name, run_id).rows for name in READ})
        except (UserError, duckdb.Error) as error:  # damaged, or cut off in the middle: its own page says more
            _log.warning("%s has no summary: %s", run_id, error)
            return Summary(None, None, (), None)

    def _of_report(self, run_id: str) -> Mapping[str, Sequence[Row]] | None:
        path = report_path(self.root, run_id)
        written = max((time for _, time, _ in state_of(self.root, (run_id,), LASTING)), default=0)
        if not path.is_file() or path.stat().st_mtime_ns < written:
            return None
        try:
            questions = read_block(path.read_text(encoding="utf-8"))["questions"]
        except (ValueError, KeyError):  # of another version, or damaged, which `cfx verify` says
            return None
        return {name: questions[name]["rows"] for name in READ} if questions.keys() >= READ else None


def _summary(run_id: str, answers: Mapping[str, Sequence[Row]]) -> Summary:
    """From the answers to the questions READ of the report."""
    checked = verdict_of(run_id, answers["rules"]) if answers["rules"] else None
    accuracy = [row for row in answers["accuracy"] if row["n"]]
    return Summary(
        verdict_from(answers),
        checked.verdict if checked else None,
        checked.reasons if checked else (),
        accuracy[0] if accuracy else None,
    )
