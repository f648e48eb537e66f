"""The gate: a run's policy is a fact, its rules are the view `gate`, its verdict the view `gate_verdicts`."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from cfx.errors import UserError, did_you_mean
from warehouse.facts.damage import damage_among
from warehouse.facts.order import next_moment
from warehouse.facts.schema import POLICIES
from warehouse.facts.shards import write_shard, written
from warehouse.facts.storage import Root, remembered
from warehouse.lens.connect import open_warehouse
from warehouse.lens.fetch import Row, fetch
from warehouse.lens.runs import NEWEST_FIRST
from warehouse.lens.settled import settle
from warehouse.lens.wholeness import refuse_damaged

_log = logging.getLogger(__name__)
EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 3}
IN_WORDS = {"fail": "failed", "inconclusive": "inconclusive", "pass": "passed"}  # what decides comes first


@dataclass(frozen=True)
class Gate:
    """What the gate says of a run: rows of the views gate_verdicts and gate."""

    run_id: str
    verdict: str
    reasons: tuple[str, ...]
    images_needed: int | None
    rules: tuple[Row, ...]


def read_policy(root: Path, run_id: str, in_part: bool = False) -> Row | None:
    """The policy that a run is held to now, or None. Raises UserError for an unknown run, with the runs there are.

    in_part: the newest of those that can be read; otherwise one that is damaged, and may be the newest, raises DamagedRun.
    """
    with closing(open_warehouse(root, sql="from runs, policies", in_part=in_part)) as lens:
        check_run(lens, root, run_id)
        return _policy(lens, run_id)


def set_policy(root: Path, run_id: str, policy: Mapping[str, Any]) -> bool:
    """Hold a run to this policy from now on, the columns of the fact without `written`. Returns whether that is a change.

    Policies of the run that are damaged are deleted once this one is written, and a warning says so.
    Raises UserError for an unknown run or base, where the policy forbids an attribute that the run's oracle does not know, or
    protects one of which nothing is known, or where another policy was set at the same time.
    """
    policy = {name: list(value) if isinstance(value, tuple) else value for name, value in policy.items()}  # as it is read back
    now, damaged = read_policy(root, run_id, in_part=True), damaged_policies(root, run_id)
    if now is not None and not damaged and all(now[name] == value for name, value in policy.items()):
        return False
    with closing(open_warehouse(root, sql="from runs, attributes, images")) as lens:
        for name in (run_id, policy["base"]):
            if name is not None:
                check_run(lens, root, name)
        seen = _names(lens, "select columns('^d_') from attributes where run_id = $run limit 1", run_id)
        _check_known(seen, policy["forbidden"])
        _check_protected(lens, run_id, seen, policy.get("protected"))
    moment = next_moment(root, "policies", run_id)
    content = json.dumps([moment.isoformat(), *policy.items()])
    row = {name: [value] for name, value in policy.items()} | {"written": [moment]}
    write_shard(root, "policies", run_id, hashlib.sha256(content.encode()).hexdigest()[:16], row)
    for path in damaged:
        path.unlink(missing_ok=True)
        _log.warning(
            "a policy of run %s was damaged and is deleted (%s): it is held to the one that was set now; was it another since "
            "the audit, set that again with `cfx gate %s --policy FILE`",
            *(run_id, path.name, run_id),
        )
    held = read_policy(root, run_id)
    if held is None or any(held[name] != value for name, value in policy.items()):
        raise UserError(
            f"gate: somebody else set another policy of run {run_id} at the same time, and it decides; set yours again"
        )
    return True


def damaged_policies(root: Path, run_id: str) -> list[Root]:
    """The files of a run's policies that are damaged."""
    place = remembered(root)
    return [place / one.file for one in damage_among(place, written(place, "policies", run_id).get(run_id, []))]


def check_run(lens: duckdb.DuckDBPyConnection, root: Path, run_id: str) -> None:
    """Raises UserError for an unknown run, with the runs there are; DamagedRun for one of which a damaged file would be read."""
    refuse_damaged(lens, run_id)
    runs = [row[0] for row in lens.execute(f"select run_id from runs order by {NEWEST_FIRST}").fetchall()]
    if run_id not in runs:
        raise UserError(f"there is no run {run_id!r} in {root}; the runs are: {', '.join(runs) or 'none yet'}")


def gate(root: Path, run_id: str) -> Gate:
    """The verdict on a run that has a policy. Raises UserError for an unknown run, or one without a policy."""
    with closing(open_warehouse(root, sql="from runs, gate")) as lens:
        check_run(lens, root, run_id)
        settle(lens, run_id)
        rules = fetch(lens, "from gate where run_id = $run order by place, subject", run=run_id)
    if not rules:
        raise UserError(f"run {run_id} has no policy yet; `cfx gate {run_id}` holds it to one")
    return verdict_of(run_id, rules)


def verdict_of(run_id: str, rules: Sequence[Row]) -> Gate:
    """The rows of `gate` of one run as gate_verdicts has them, without asking the view a second time."""
    verdict = rules[0]["verdict"]
    reasons = [rule["reason"] for rule in rules if rule["result"] == verdict]
    needed = [rule["images_needed"] for rule in rules if rule["images_needed"] is not None]
    shown = [f"all {len(rules)} release checks passed"] if verdict == "pass" else reasons
    return Gate(run_id, verdict, tuple(shown), max(needed, default=None), tuple(rules))


def _policy(lens: duckdb.DuckDBPyConnection, run_id: str) -> Row | None:
    found = fetch(lens, f"select {', '.join(POLICIES.schema.names)} from policies where run_id = $run", run=run_id)
    return found[0] if found else None


def _names(lens: duckdb.DuckDBPyConnection, sql: str, run_id: str) -> list[str]:
    """The attributes of which a wide column of these rows, `x_<attribute>`, holds anything."""
    rows = fetch(lens, sql, run=run_id)
    return sorted({column[2:] for row in rows for column, value in row.items() if value is not None})


def _check_known(known: Sequence[str], forbidden: Sequence[str] | None) -> None:
    missing = sorted(set(forbidden or ()) - set(known))
    if known and missing:
        meant = did_you_mean(missing[0], known)
        raise UserError(f"forbidden: the run's oracle knows no {missing[0]!r}{meant}; it knows {', '.join(known)}")


def _check_protected(lens: duckdb.DuckDBPyConnection, run_id: str, seen: Sequence[str], protected: Sequence[str] | None) -> None:
    if not protected:
        return
    annotated = _names(lens, "select any_value(columns('^a_')) from images where run_id = $run", run_id)
    [[label]] = lens.execute("select target_attribute from runs where run_id = $run", {"run": run_id}).fetchall()
    known = sorted({*annotated, *seen} - {label})
    for name in protected:
        if name == label:
            raise UserError(f"protected: {name!r} is the label itself (`target_attribute`): an answer must go with it")
        if name not in known:
            there = f"known are {', '.join(known)}" if known else "it has neither annotations nor an oracle"
            raise UserError(f"protected: the run knows nothing of {name!r}{did_you_mean(name, known)}; {there}")
