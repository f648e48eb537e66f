"""A report is what its facts say, and one changed byte anywhere is found and named."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from evidence_run import POLICY, flip
from typer.testing import CliRunner

from flows.cli import app
from warehouse.evidence.verify import verify
from warehouse.explorer.names import Marks, give_name
from warehouse.explorer.reviews import review
from warehouse.facts.schema import FACTS
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query
from warehouse.lens.gate import set_policy
from warehouse.report.embedded_numbers import Page, numbers
from warehouse.report.render import write_report


def test_every_number_is_recomputed(written: Path) -> None:
    found = verify(written, "run")
    assert found.sound and found.numbers == found.recomputed > 500
    assert found.files == 2 + len(list((written / "facts").rglob("*.parquet")))


def test_the_canary_and_its_twins_are_on_the_page(written: Path) -> None:
    page, [canary] = (written / "reports" / "run.html").read_text(), query(written, "from canaries").to_pylist()
    assert f"{canary['why']}." in page and f"{100 * canary['power']:.1f}%, the chance" in page
    assert all(f'<span class="code">{run}</span>' in page for run in ("run-planted", "run-clean"))


def test_the_hashes_are_those_of_sha256sum(written: Path) -> None:
    ended = subprocess.run(["sha256sum", "--check", "--quiet", "reports/run.sha256"], cwd=written, capture_output=True)
    assert ended.returncode == 0, ended.stderr


def first(root: Path, fact: str, run: str) -> Path:
    return min((root / "facts" / fact / f"run_id={run}").glob("*.parquet"))


ALSO = [
    pytest.param(*of, marks=pytest.mark.long) for of in (("explanations", "run"), ("effects", "earlier"))
]  # see the next test


@pytest.mark.parametrize(("fact", "run"), [*ALSO, ("edits", "edits-demo")])
def test_a_flipped_byte_in_a_fact_is_found_and_named(root: Path, fact: str, run: str) -> None:
    path = next((root / "facts" / fact / f"run_id={run}").glob("*.parquet"))
    flip(path)
    found = verify(root, "run")
    assert not found.sound and found.bad_files == [str(path.relative_to(root))]


def test_every_fact_that_the_report_rests_on_is_hashed(root: Path) -> None:
    paths = sorted((root / "facts").rglob("*.parquet"))
    assert {path.parent.parent.name for path in paths} == set(FACTS)
    assert {path.parent.name[7:] for path in paths} == {"run", "earlier", "run-planted", "run-clean", "edits-demo"}
    for path in paths:
        flip(path, 0.9)
    assert verify(root, "run").bad_files == sorted(str(path.relative_to(root)) for path in paths)


def test_facts_that_came_later_to_a_run_beside_it_do_not_matter(root: Path) -> None:
    write_shard(root, "edits", "edits-demo", "00001", FACTS["edits"].schema.empty_table())
    set_policy(root, "earlier", POLICY | {"base": None})
    assert verify(root, "run").sound


@pytest.mark.parametrize("name", ["run.html", pytest.param("run.sha256", marks=pytest.mark.long)])
def test_a_flipped_byte_in_the_report_or_its_hashes_is_found_and_named(root: Path, name: str) -> None:
    flip(root / "reports" / name, 0.01 if name.endswith("256") else 0.5)
    found = verify(root, "run")
    assert not found.sound and (name != "run.html" or "reports/run.html" in found.bad_files)


@pytest.mark.long
def test_a_number_that_was_edited_is_damage_even_where_the_report_is_stale(root: Path) -> None:
    review(root, "run", "Ada", "rejected", attribute="glasses")
    path = root / "reports" / "run.html"
    page = path.read_text()
    (strongest,) = query(root, "select effect from verdicts where run_id = 'run' and rank = 1").to_pylist()
    effect = f"{100 * strongest['effect']:+.1f}"
    altered = page.replace(f'data-label="Effect">{effect}', 'data-label="Effect">+0.1', 1)
    assert altered != page
    path.write_text(altered)
    found = verify(root, "run")
    assert found.mismatches == [f"on the page: +0.1 in the report, {effect} in the facts"]
    assert found.recomputed == found.numbers - 1 and found.state == "damaged"


def test_a_missing_fact_is_named(root: Path) -> None:
    path = next((root / "facts" / "predictions").rglob("*.parquet"))
    path.unlink()
    assert str(path.relative_to(root)) in verify(root, "run").bad_files


def test_a_report_that_is_older_than_reviews_is_stale_and_not_damaged(root: Path) -> None:
    for reviewer, mark in (("Ada", "rejected"), ("Bob", "confirmed")):
        review(root, "run", reviewer, mark, attribute="glasses")
    give_name(root, "run", "Ada", ("property", "warmth"), "warm light", Marks([], []))
    set_policy(root, "run", POLICY | {"maximum_effect": 0.9})
    told = CliRunner().invoke(app, ["verify", "run", "-w", str(root)])
    assert told.exit_code == 3
    assert "the report is older than 1 name, 1 policy and 2 reviews; run `cfx report run`" in told.output
    same, of = re.findall(r"([\d,]+) of ([\d,]+) numbers recomputed", told.output)[0]
    assert same == of and "bad file" not in told.output and "differs" not in told.output


@pytest.mark.long
def test_a_report_written_after_a_review_is_sound(root: Path) -> None:
    review(root, "run", "Bob", "rejected", attribute="glasses")
    write_report(root, "run")
    assert verify(root, "run").state == "sound"


def test_numbers_worked_example() -> None:
    html = '<style>b{9}</style><p>1,234 of <b>+0.5</b></p><template id="cfx-numbers">{"questions": {}}</template>'
    assert Page(html).seen == ["1,234", "+0.5"] and Page(html).content == {"questions": {}}
    assert list(numbers([{"a": 1, "b": [True, None, 0.5]}])) == [("[0].a", 1.0), ("[0].b[2]", 0.5)]


def test_no_report_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cfx report nobody"):
        verify(tmp_path, "nobody")
