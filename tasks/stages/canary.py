"""The canary: a planted and a clean twin, audited with the same configuration, say what this audit can and cannot see."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from cfx.classifiers import ClassifierConfig
from cfx.errors import UserError
from cfx.types import Config
from warehouse.facts.shards import Shard, find_shard, write_shard
from warehouse.lens.connect import query


class Canary(Config):
    """Two twins of the classifier under audit, of the same classes: one trained to lean on a known attribute, one not."""

    planted: ClassifierConfig = Field(description="the twin that leans on `attribute`")
    clean: ClassifierConfig = Field(description="the twin that leans on nothing but what it should")
    attribute: str = Field(description="the oracle's attribute that the planted twin leans on")


def record_canary(root: Path, run_id: str, attribute: str, planted_run: str, clean_run: str) -> Shard:
    """Write what became of the twins' audits: measured power, false alarms, and whether the canary passed.

    Raises UserError if the planted twin's audit has no verdict on the attribute.
    """
    done = find_shard(root, "canaries", run_id, "all")
    if done is not None:
        return done
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
    return write_shard(root, "canaries", run_id, "all", {name: [value] for name, value in row.items()})
