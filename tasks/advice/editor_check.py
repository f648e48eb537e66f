"""An editor that is not shown to draw as the ladder does has no part in statistics of attributes: said at the audit's end."""

from __future__ import annotations

from tasks.run import Run
from warehouse.lens.connect import query

APART = """
    select attribute, count(*) as directions, min(low) as low, max(high) as high from editors
    where run_id = $run and measure = 'shift' and not equivalent group by attribute order by max(high) - min(low) desc, attribute
"""
COUNTED = "select sum(n)::int as n, sum(admitted)::int as admitted from ways where run_id = $run"


def editor_warnings(run: Run) -> tuple[str, ...]:
    """Which attributes the editor is not shown to change as the ladder does, and how many explanations are left to count."""
    if run.config.editor is None:
        return ()
    apart = query(run.root, APART, {"run": run.id}).to_pylist()
    (counted,) = query(run.root, COUNTED, {"run": run.id}).to_pylist()
    if not apart or counted["n"] == counted["admitted"]:
        return ()
    names = ", ".join(row["attribute"] for row in apart)
    return (
        f"editor: it is not shown to change these attributes as the ladder does, within the margin of {run.config.margin:g}: "
        f"{names}. So statistics of attributes rest on {counted['admitted']:,} of {counted['n']:,} explanations, those that the "
        "ladder made at once; raise `editor.examples`, a quarter of which is held out for this test, or leave `editor` out",
    )
