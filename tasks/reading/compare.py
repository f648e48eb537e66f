"""Two audits side by side, paired by image: the views changes, edit_changes, flip_changes and scorecard."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cfx.errors import UserError
from warehouse.lens.fetch import Row, fetch
from warehouse.lens.gate import check_run
from warehouse.lens.listed_runs import open_run


@dataclass(frozen=True)
class Comparison:
    """`run` against `base`: rows of `changes` and `edit_changes`, largest first, of `unedited` with `base_verdict`, the base's
    verdict on what was not edited in the run, a row of flip_changes or None, metrics."""

    run_id: str
    base_id: str
    attributes: list[Row]
    edits: list[Row]
    unedited: list[Row]
    flips: Row | None
    metrics: list[Row]


METRICS = """
select metric, method, a.value, b.value as base_value, a.value - b.value as change, a.n, b.n as base_n
from (from scorecard where run_id = $run) a
join (from scorecard where run_id = $base) b using (metric, method)
order by metric, method
"""
PAIR = "where run_id = $run and base_id = $base"
CHANGED = f"from changes {PAIR} order by abs(change) desc, attribute"
EDITED = f"from edit_changes {PAIR} order by abs(change) desc, attribute"
UNEDITED = f"from unedited {PAIR} order by abs(base_effect) desc, attribute"
VERDICTS = "select attribute, verdict from verdicts where run_id = $base order by rank desc"
FLIPS = f"from flip_changes {PAIR}"


def compare(root: Path, run_id: str, base_id: str) -> Comparison:
    """What changed from base to run. Raises UserError for an unknown run, or two runs with nothing in common."""
    sql = ";".join(["from runs", CHANGED, EDITED, UNEDITED, VERDICTS, FLIPS, METRICS])
    with closing(open_run(root, sql, run_id, base_id)) as lens:
        for name in (run_id, base_id):
            check_run(lens, root, name)
        attributes, edits, unedited, flips, metrics = (
            fetch(lens, sql, run=run_id, base=base_id) for sql in (CHANGED, EDITED, UNEDITED, FLIPS, METRICS)
        )
        verdicts = fetch(lens, VERDICTS, base=base_id) if unedited else []
    known = {row["attribute"]: row["verdict"] for row in verdicts}
    unedited = [row | {"base_verdict": known.get(row["attribute"], "not judged")} for row in unedited]
    if not attributes and not flips:
        raise UserError(f"{run_id} and {base_id} cannot be compared: they share neither images nor attributes")
    return Comparison(run_id, base_id, attributes, edits, unedited, flips[0] if flips else None, metrics)
