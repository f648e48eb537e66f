"""Metrics that a run turned out not to have, each with the reason: none vanishes without a word."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb

from tasks.run import Run
from tasks.stages.encoders import Absent, measures_cout, no_features

COUNTS = """
    select
        count(*) as explained, count(*) filter (flipped) as flipped, count(*) filter (correct is not false) as right_before,
        (select count(*) from cout where run_id = $run) as with_cout, (select count(*) from cd where run_id = $run) as with_cd,
        (select count(query) from annotated where run_id = $run) as annotated
    from outcomes where run_id = $run
"""
OF_FLIPPED = (("fva", "vggface2"), ("fs", "vggface2"))
NO_ORACLE = "no oracle: set `oracle`"
NONE_EXPLAINED = "no image was explained: every one is predicted as its target already, or was refused"
NONE_FLIPPED = "no explanation flipped: try a stronger `ladder`"
NONE_RIGHT = "no explained image was classified correctly, by its label: see the labels and the order of the classes"
ALL_IDENTICAL = "every counterfactual equals its image"


def unmeasured(run: Run, lens: duckdb.DuckDBPyConnection) -> Iterator[Absent]:
    """Of the metrics that this configuration asks for, those that its explanations and annotations give no value."""
    found = lens.execute(COUNTS, {"run": run.id}).fetchone()
    assert found is not None
    explained, flipped, right, with_cout, with_cd, annotated = found
    measures = run.config.measures
    of_right = [("s3", "simsiam")] if measures.simsiam is not None else []
    of_right += [("s3", "oracle")] if no_features(run) is None else []
    of_flipped: list[tuple[str, str | None]] = [pair for pair in OF_FLIPPED if getattr(measures, pair[1]) is not None]
    of_flipped += [("mnac", None)] if run.config.oracle is not None else []
    of_flipped += [(metric, None) for metric in ("im1", "im2") if measures.autoencoders is not None]
    if run.config.oracle is None:
        yield Absent("mnac", None, NO_ORACLE)
    if not flipped:
        yield from (Absent(metric, encoder, NONE_FLIPPED if explained else NONE_EXPLAINED) for metric, encoder in of_flipped)
    if not right:
        yield from (Absent(metric, encoder, NONE_RIGHT if explained else NONE_EXPLAINED) for metric, encoder in of_right)
    if not with_cout and measures_cout(measures, run.config.classifier):
        yield Absent("cout", None, NONE_EXPLAINED if not explained else ALL_IDENTICAL if right else NONE_RIGHT)
    if not with_cd:
        yield Absent("cd", None, _no_cd(run, explained, flipped, annotated))


def _no_cd(run: Run, explained: int, flipped: int, annotated: int) -> str:
    target, oracle = run.config.target_attribute, run.config.oracle
    if oracle is None:
        return NO_ORACLE
    if target is None:
        return "no target attribute: set `target_attribute`, the oracle's attribute that the classes are about"
    if not annotated:
        return (
            f"no annotation of {target!r}: the table needs a yes/no column called as the oracle calls it, or set "
            "`data.annotations` to a table that has one"
        )
    if not explained:
        return NONE_EXPLAINED
    return NONE_FLIPPED if not flipped else "no attribute of the oracle has annotations: call columns and attributes alike"
