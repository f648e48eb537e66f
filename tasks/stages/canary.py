"""The canary: a planted and a clean twin, audited with the same configuration, say what this audit can and cannot see."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from cfx.errors import UserError
from tasks.run import Run
from tasks.stage import Rows, stage
from warehouse.lens.connect import query


class Twins(NamedTuple):
    """What was planted, and the run ids of the two twins' audits."""

    attribute: str
    planted: str
    clean: str


@stage("canaries")
def record_canary(run: Run, twins: Twins) -> Rows:
    """Write what became of the twins' audits: measured power, false alarms, and whether the canary passed.

    Raises UserError if the planted twin's audit has no verdict on the attribute.
    """
    return judged(run.root, twins)


def judged(root: Path, twins: Twins) -> dict[str, list[Any]]:
    """The row of `canaries` that the audits of the twins lead to."""
    attribute, planted_run, clean_run = twins
    sql = "select attribute, rank, verdict, coalesce(power, 0) as power from claims where run_id = $run order by rank"
    planted, clean = (query(root, sql, {"run": run}).to_pylist() for run in (planted_run, clean_run))
    found = next((row for row in planted if row["attribute"] == attribute), None)
    if found is None:
        raise UserError(f"canary: the planted twin's audit {planted_run!r} has no verdict on {attribute!r}; explain more images")
    alarms = [row["attribute"] for row in clean if row["verdict"] == "confirmed"]
    missed = found["verdict"] != "confirmed"
    silent = 1.0
    for row in clean:
        silent *= 1 - row["power"]
    why = [f"{attribute} was planted and is {found['verdict']}"] if missed else []
    why += [f"{', '.join(alarms)} confirmed in the clean twin"] if alarms else []
    row = {
        "attribute": attribute,
        "planted_run": planted_run,
        "clean_run": clean_run,
        "verdict": found["verdict"],
        "rank": found["rank"],
        "power": found["power"],
        "false_alarms": alarms,
        "false_alarm_rate": 1 - silent,
        "passed": not why,
        "why": "; ".join(why) or f"{attribute} was planted and confirmed, and nothing else",
    }
    return {name: [value] for name, value in row.items()}
