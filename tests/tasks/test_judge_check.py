"""A judge is warned of where edits of one attribute move it like the classifier, and only there."""

from pathlib import Path
from typing import Any

import pytest
from facts import effect_rows, image_ids, run_rows

from tasks.advice.judge_check import judge_warnings
from tests.runs import run_of
from warehouse.facts.shards import write_shard

N = 24
JUDGE = {"weights": "portraits:judge"}


def edited(root: Path, attribute: str, classifier: float, judge: float | None) -> None:
    spread = [0.02 if i % 2 else -0.02 for i in range(N)]
    rows = effect_rows(image_ids(N, seed=9), attribute, [classifier + step for step in spread])
    if judge is not None:
        rows |= {f"judge_{arm}": [[0.5, 0.5]] * N for arm in ("before", "sham")}
        rows |= {f"judge_{arm}": [[0.5 - judge - step, 0.5 + judge + step] for step in spread] for arm in ("after", "pasted")}
    write_shard(root, "effects", "r1", attribute, rows)


@pytest.mark.parametrize(
    ("attribute", "classifier", "judge", "told"),
    [
        ("glasses", 0.4, 0.3, True),
        ("beard", -0.3, -0.25, True),
        ("glasses", 0.4, 0.1, False),  # it looks there a little
        ("glasses", 0.4, -0.3, False),  # it goes the other way
        ("glasses", 0.05, 0.05, False),  # within the margin nothing is followed
        ("glasses", 0.4, None, False),  # nobody asked it
    ],
)
def test_a_judge_that_follows_is_named_with_what_it_follows(
    tmp_path: Path, attribute: str, classifier: float, judge: float | None, told: bool
) -> None:
    write_shard(tmp_path, "runs", "r1", "finished", run_rows())
    edited(tmp_path, attribute, classifier, judge)
    edited(tmp_path, "hat", 0.01, 0.3)  # what the judge alone looks at is no matter of the classifier
    found = judge_warnings(run_of(tmp_path, judge=JUDGE))
    assert len(found) == told
    if told:
        assert f"it follows {attribute} like the classifier ({judge:+.2f} and {classifier:+.2f}" in found[0]
        assert "cfx train classifier" in found[0]


@pytest.mark.parametrize("without", [{}, {"judge": JUDGE, "oracle": None}])
def test_without_a_judge_or_edits_nothing_is_said(tmp_path: Path, without: dict[str, Any]) -> None:
    assert judge_warnings(run_of(tmp_path, **without)) == ()
