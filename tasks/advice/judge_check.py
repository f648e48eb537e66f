"""A judge that follows what the classifier follows does not tell a change of class from a shortcut: said at the audit's end."""

from __future__ import annotations

from tasks.run import Run
from warehouse.lens.connect import query

AS_MUCH = 0.5  # of the classifier's change by the same edits: a judge with as much follows, too

FOLLOWED = """
    select attribute, effect, judge from interventions join (select run_id, margin from runs) using (run_id)
    where run_id = $run and greatest(low, -high) > 0 and abs(effect) >= margin and judge * sign(effect) >= $share * abs(effect)
    order by abs(effect) desc, attribute
"""


def judge_warnings(run: Run) -> tuple[str, ...]:
    """Attributes whose edits move the judge's answers like the classifier's; nothing without a judge."""
    if run.config.judge is None or run.config.oracle is None:
        return ()
    followed = query(run.root, FOLLOWED, {"run": run.id, "share": AS_MUCH}).to_pylist()
    return tuple(
        f"judge: it follows {row['attribute']} like the classifier ({row['judge']:+.2f} and {row['effect']:+.2f} when that alone "
        "is edited), so its agreement with a counterfactual says little; take one that learned from other images, or train it "
        "on these with the attribute in the table: `cfx train classifier` draws images so that it goes with no class"
        for row in followed
    )
