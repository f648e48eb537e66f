"""Every run in a line: what it is of, whether it is finished, and what its report says of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from cfx.errors import UserError
from warehouse.facts.storage import files_below
from warehouse.lens.connect import left_out_of, open_warehouse
from warehouse.lens.fetch import Row, fetch
from warehouse.lens.gate import gate, verdict_of
from warehouse.lens.runs import NEWEST_FIRST
from warehouse.report.embedded_numbers import read_block
from warehouse.report.queries import EVIDENCE
from warehouse.report.render import report_path
from warehouse.report.verdict import RESTS_ON, read_verdict, verdict_from

LATER = ("policies", "reviews")  # facts that are written after a report, and change what it says
_RUNS = f"select run_id, name, status, reason, started, finished, attempted from runs order by {NEWEST_FIRST}"
_DAMAGED = "select run_id, min(file || ' (' || wrong || ')') as file from facts.damaged where fact = 'runs' group by run_id"
_RESTS_ON = ";".join(EVIDENCE[name] for name in (*RESTS_ON, "rules"))


def listing(root: Path, last: int | None = None) -> list[Row]:
    """The newest runs first, at most `last`: run_id, audit, status (started, finished, failed, or damaged where its record or a
    file that its verdict rests on is), reason, started, finished, images, and of a finished one verdict (finding, clear or
    inconclusive), headline and gate (pass, fail or inconclusive).

    What a report says is read off the report, unless a policy or a review came after it: asked anew it takes a second a run.
    """
    with closing(open_warehouse(root, sql=_RUNS, in_part=True)) as lens:
        rows = fetch(lens, _RUNS)
        records = {row["run_id"]: row for row in fetch(lens, _DAMAGED)}
    gone = [_without_record(run_id) for run_id in sorted(records.keys() - {row["run_id"] for row in rows})]
    rows = [_marked(root, row, records) for row in [*rows, *gone][:last]]
    nothing = {"verdict": None, "headline": None, "gate": None}
    return [
        {
            "run_id": row["run_id"],
            "audit": row["name"],
            "status": row["status"],
            "reason": row["reason"],
            "started": row["started"],
            "finished": row["finished"],
            "images": row["attempted"],
        }
        | (_said(root, row["run_id"]) if row["status"] == "finished" else nothing)
        for row in rows
    ]


def _without_record(run_id: str) -> Row:
    """What is known of a run none of whose events can be read."""
    unknown = dict.fromkeys(("reason", "started", "finished", "attempted"))
    return {"run_id": run_id, "name": run_id.rpartition("-")[0] or run_id, "status": "damaged"} | unknown


def _marked(root: Path, row: Row, records: Mapping[str, Row]) -> Row:
    """A row of _RUNS, with the status and reason of a run that cannot be read whole."""
    run_id = row["run_id"]
    if run_id in records:
        return row | {"status": "damaged", "reason": records[run_id]["file"]}
    because = left_out_of(root, [run_id], _RESTS_ON).get(run_id)
    return row | {"status": "damaged", "reason": str(because[0])} if because else row


def _said(root: Path, run_id: str) -> dict[str, str | None]:
    """Verdict, headline and gate of a finished run."""
    questions = _page(root, run_id)
    if questions is None:
        said = read_verdict(root, run_id)
        return {"verdict": said.kind, "headline": said.headline, "gate": _gate(root, run_id)}
    said = verdict_from({name: questions[name]["rows"] for name in RESTS_ON})
    rules = questions["rules"]["rows"]
    return {"verdict": said.kind, "headline": said.headline, "gate": verdict_of(run_id, rules).verdict if rules else None}


def _gate(root: Path, run_id: str) -> str | None:
    try:
        return gate(root, run_id).verdict
    except UserError:  # held to no policy yet
        return None


def _page(root: Path, run_id: str) -> dict[str, Any] | None:
    """The questions and answers of a run's report; None where it is not there, is older than what it should say, damaged, or
    another version's."""
    path = report_path(root, run_id)
    if not isinstance(path, Path) or not path.is_file():
        return None
    later = [file for fact in LATER for file in files_below(root / "facts" / fact, f"run_id={run_id}/*.parquet")]
    if any(file.stat().st_mtime > path.stat().st_mtime for file in later):
        return None
    try:
        questions: dict[str, Any] = read_block(path.read_text(encoding="utf-8"))["questions"]
    except (ValueError, KeyError):
        return None
    return questions if {*RESTS_ON, "rules"} <= questions.keys() else None
