"""The draft of Annex IV: its numbers are the warehouse's, its gaps have names, and verify finds what was altered."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from portrait_run import write_portrait_run

from tasks.pack import verify
from tasks.reading.gate import Policy, set_policy
from warehouse.evidence.annex_iv import write_annex_iv
from warehouse.lens.catalog import VIEWS
from warehouse.lens.connect import query
from warehouse.report.annex_iv import NUMBERS
from warehouse.report.regulation import BIAS, CROSSWALK, GMLP

HOSTILE = "<b>|hat --> [x](y)"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, "run", n=60, size=16, names={"hat": HOSTILE})
    set_policy(root, "run", Policy(protected=("glasses", HOSTILE)))
    return root


def test_a_draft_verifies_filled_in_or_not_and_an_altered_number_is_found(root: Path, tmp_path: Path) -> None:
    path = write_annex_iv(root, "run", tmp_path / "run-annex-iv.md")
    text, _, numbers = path.read_text().partition(f"\n{NUMBERS}")
    assert [int(n) for n in re.findall(r"^## (\d)\. ", text, re.M)] == list(range(1, 10))
    assert text.count("[to be filled in: ") >= 25 and "[to be filled in: intended purpose]" in text
    assert "<b>" not in text and "&lt;b>\\|hat --> \\[x](y)" in text and numbers.count("-->") == 1
    [whole] = query(root, "from accuracy where label is null").to_pylist()
    assert f"| all | {100 * whole['value']:.1f}% | " in text
    assert "| error gap: glasses | " in text and "| edited effect: glasses | " in text
    with pytest.raises(ValueError, match="is there already, and may have been filled in"):
        write_annex_iv(root, "run", path)

    path.write_text(path.read_text().replace("[to be filled in: intended purpose]", "counting 12 smiles\n\nAdded by hand: 99%"))
    [line] = [line for line in text.splitlines() if line.startswith("| all | ")]
    path.write_text(path.read_text().replace(line, line.replace("| 60 |", "| 61 |")).replace('"n": 60', '"n": 61', 1))
    found = verify(root, str(path))
    assert not found.sound and found.numbers > 500 and found.recomputed == found.numbers - len(re.findall(r"[\d.]+", line)) - 1
    [answer, missing] = found.mismatches  # and nothing of what was filled in or added
    assert answer.endswith("61.0 in the report, 60.0 in the facts") and missing == f"not in the file: {line}"


def test_what_is_no_draft_is_told(root: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("# Notes\n")
    with pytest.raises(ValueError, match=r"notes\.md is no draft of `cfx export annex-iv`"):
        verify(root, str(tmp_path / "notes.md"))
    (tmp_path / "cut.md").write_text(f"# Draft\n\n{NUMBERS}" + '{"run_id": "run", "questions": {"a"')
    with pytest.raises(ValueError, match="which holds the queries, is not whole"):
        verify(root, str(tmp_path / "cut.md"))
    with pytest.raises(ValueError, match="there is no file"):
        verify(root, str(tmp_path / "none.md"))
    with pytest.raises(ValueError, match="there is no run 'nosuch'"):
        write_annex_iv(root, "nosuch", tmp_path / "nosuch.md")
    assert not (tmp_path / "nosuch.md").exists()


def test_every_point_says_what_answers_it_and_what_does_not() -> None:
    known = {*VIEWS, "images", "rejected", "canaries"}
    for point in CROSSWALK:
        assert set(point.views) <= known and point.unanswered, point
        assert bool(point.views) == bool(point.sections), point
    assert {point.place for point in CROSSWALK if point.source == GMLP} == {str(n) for n in range(1, 11)}
    assert {point.place for point in CROSSWALK if point.source == BIAS} == {"6", "7", "8"}
