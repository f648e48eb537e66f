"""What the answers of a black box tell of its settings, once an audit has them: it is queried nothing for it."""

from __future__ import annotations

import numpy as np

from cfx.classifiers import BlackBoxes
from tasks.advice.accuracy_check import warnings_of
from tasks.run import Run
from warehouse.lens.connect import query

ENOUGH = 16  # answers below which nothing is said of their range

COUNTED = """
    select label, class, count(*) as n from images join predictions using (run_id, image_id)
    where run_id = $run and label is not null group by all order by all
"""
RANGE = """
    select count(*) as n, max(ln(list_max(probabilities)) - ln(list_min(probabilities))) as widest
    from predictions where run_id = $run
"""


def black_box_warnings(run: Run) -> tuple[str, ...]:
    """What looks wrong about the answers of a run's black box; nothing for a network in this process, which was tried before."""
    config = run.config.classifier
    if not isinstance(config, BlackBoxes):
        return ()
    counted = query(run.root, COUNTED, {"run": run.id}).to_pylist()
    said, truth = (
        np.repeat([run.classes.index(row[name]) for row in counted], [row["n"] for row in counted]).astype(np.int64)
        for name in ("class", "label")
    )
    found = [*warnings_of(said, truth, run.classes)] if counted else []
    (answers,) = query(run.root, RANGE, {"run": run.id}).to_pylist()
    if config.answers == "logits" and answers["n"] >= ENOUGH and answers["widest"] <= 1:
        found.append("its logits differ by 1 at most in every image; if they are probabilities, set `answers: probabilities`")
    return tuple(f"classifier: {warning}" for warning in found)
