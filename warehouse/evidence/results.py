"""What a run found, read once: what its archive, its model card and the pages of other tools say of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from warehouse.lens.fetch import Row, fetch
from warehouse.lens.gate import IN_WORDS, Gate, check_run, verdict_of
from warehouse.lens.listed_runs import open_run
from warehouse.lens.settled import settle
from warehouse.report.queries import EVIDENCE, evidence
from warehouse.report.verdict import Verdict, verdict_from

QUESTIONS = ("runs", "layers", "ranked", "share", "claims", "compared", "accuracy", "worst", "scorecard", "rules")
COSTS = "select stage, shards, seconds from stage_costs where run_id = $run order by stage"


@dataclass(frozen=True)
class Results:
    """Rows of the views, and what is said of them. gate: None for a run without a policy; accuracy: None without
    labels; worst: the group of label and attribute where accuracy is lowest, None without groups."""

    run: Row
    verdict: Verdict
    gate: Gate | None
    accuracy: Row | None
    worst: Row | None
    attributes: list[Row]
    explained: list[Row]
    claims: list[Row]
    scorecard: list[Row]
    costs: list[Row]


def read_results(root: Path, run_id: str) -> Results:
    """What a run found. Raises UserError for an unknown run."""
    sql = ";".join((*(EVIDENCE[name] for name in QUESTIONS), COSTS))
    with closing(open_run(root, sql, run_id)) as lens:
        check_run(lens, root, run_id)
        settle(lens, run_id)
        found = {name: evidence(lens, name, run_id).rows for name in QUESTIONS}
        costs = fetch(lens, COSTS, run=run_id)
    (run,) = found["runs"]
    return Results(
        run=run,
        verdict=verdict_from(found),
        gate=verdict_of(run_id, found["rules"]) if found["rules"] else None,
        accuracy=next(iter(found["accuracy"]), None),
        worst=next(iter(found["worst"]), None),
        attributes=found["ranked"],
        explained=found["share"],
        claims=found["claims"],
        scorecard=found["scorecard"],
        costs=costs,
    )


def release_check(results: Results) -> str:
    """The gate in one sentence: its verdict and every reason."""
    if results.gate is None:
        return "Held to no policy."
    return f"Release check {IN_WORDS[results.gate.verdict]}: {'; '.join(results.gate.reasons)}."


def measured(results: Results) -> dict[str, float]:
    """Every number of a run by a name that groups it: effect/glasses, effect_low/glasses, scorecard/fr, stage_seconds/edits.

    Shares and probabilities are from 0 to 1, as in the views. Properties and places are those that are confirmed or suspected.
    """
    return {name: float(value) for name, value in _numbers(results) if value is not None and isfinite(value)}


def _numbers(results: Results) -> Iterator[tuple[str, float | None]]:
    if results.gate is not None:
        for result, name in IN_WORDS.items():
            yield f"release_checks/{name}", sum(rule["result"] == result for rule in results.gate.rules)
    if results.accuracy is not None:
        yield from _interval("accuracy", "", results.accuracy, "value")
    if results.worst is not None:
        yield from _interval("worst_group_accuracy", "", results.worst, "value")
    for row in results.explained:
        yield from _interval("explained_share", f"/{row['class']}", row, "share")
    for row in results.attributes:
        yield from _interval("effect", f"/{row['attribute']}", row, "effect")
        yield f"intervention/{row['attribute']}", row["intervention"]
        for side in ("low", "high"):
            yield f"intervention_{side}/{row['attribute']}", row[f"intervention_{side}"]
    for row in shown_claims(results):
        yield from _interval(row["kind"], f"/{row['name']}/{row['class']}", row, "intervention")
    for row in results.scorecard:
        yield f"scorecard/{row['metric']}", row["value"]
    for row in results.costs:
        yield f"stage_seconds/{row['stage']}", row["seconds"]


def shown_claims(results: Results) -> list[Row]:
    """Rows of `findings` about properties and places that are confirmed or suspected."""
    return [row for row in results.claims if row["kind"] != "attribute" and row["verdict"] in ("confirmed", "suspected")]


def _interval(name: str, subject: str, row: Row, value: str) -> Iterator[tuple[str, float | None]]:
    yield name + subject, row[value]
    yield f"{name}_low{subject}", row["low"]
    yield f"{name}_high{subject}", row["high"]
