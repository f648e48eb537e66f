"""The report says what the views say, needs nothing but itself, and shows names from data as text."""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path

import pytest
from markupsafe import escape
from portrait_run import write_portrait_run

from warehouse.evidence.model_card import model_card
from warehouse.evidence.results import read_results
from warehouse.evidence.verify import verify
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query
from warehouse.lens.fetch import printed
from warehouse.lens.kept import digests
from warehouse.report.embedded_numbers import Page
from warehouse.report.formatting import percent, score
from warehouse.report.plain_text import PlainText
from warehouse.report.queries import BEST, EVIDENCE, FAILED, FOUND, RANDOM
from warehouse.report.render import report_html, write_report
from warehouse.report.verdict import read_verdict

HOSTILE = {
    "glasses": "<script>alert('glasses')</script>",
    "hat": '"><img src=x onerror=alert(1)>',
    "smile": "smile</title><script>alert(2)</script>",
}


SETS = {
    "method": ["dime"] * 3, "metric": ["fid", "sfid", "fid"], "encoder": ["inception", "inception", "oracle"],
    "value": [None, None, 12.5], "n": [0, 0, 90], "n_real": [0, 0, 96], "splits": [None] * 3, "sd": [None] * 3,
    "low": [None] * 3, "high": [None] * 3, "absent": ["no <weights>", "no <weights>", None],
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse with a planted, a clean and an interrupted audit, and one whose names are HTML."""
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, "planted-run", n=96, size=32, harmed=True)
    write_portrait_run(root, "clean-run", n=160, size=32, planted=False)
    write_portrait_run(root, "interrupted-run", n=24, size=32, status="started")
    write_portrait_run(root, "hostile-run", n=24, size=32, names=HOSTILE, file_name="<script>alert({})</script>.png")
    write_shard(root, "set_metrics", "planted-run", "dime", SETS)
    return root


@cache
def page_of(root: Path, run: str) -> str:
    """The report of a run of `root`, which no test changes."""
    return report_html(root, run)


def headline(page: str) -> str:
    found = re.search("<h1>(.*?)</h1>", page)
    assert found
    return html.unescape(found[1])


def test_planted_run_leans_on_glasses(root: Path) -> None:
    page = page_of(root, "planted-run")
    assert headline(page) == "The smile classifier “planted” relies on glasses"
    assert "When images are changed until the model says “smiling”, “glasses” becomes more likely" in page


def test_clean_run_has_no_finding(root: Path) -> None:
    assert (
        headline(page_of(root, "clean-run")) == "No reliance found: the smile classifier “clean” is clear of all that was tried"
    )


def test_page_one_says_how_often_it_is_right_and_what_that_hides(root: Path) -> None:
    """Accuracy by glasses is fair, by label and glasses it is not: the overall number alone would hide it."""
    page = page_of(root, "planted-run")
    [overall] = query(root, "select value, low, high from accuracy where run_id = 'planted-run' and label is null").to_pylist()
    groups = query(
        root, "select * from worst_groups where run_id = 'planted-run' and attribute = 'glasses' order by value"
    ).to_pylist()
    by_glasses = query(root, "select accuracy from subgroups where run_id = 'planted-run' and attribute = 'glasses'").to_pylist()
    assert abs(by_glasses[0]["accuracy"] - by_glasses[1]["accuracy"]) < 0.1
    assert [row["high"] < overall["value"] for row in groups] == [True, True, False, False]
    first_screen = page[page.index('id="verdict"') : page.index('id="evidence"')]
    assert f"Overall accuracy is <strong>{score(overall['value'])}</strong>, but it hides two groups" in first_screen
    assert first_screen.count('class="cell low"') == first_screen.count('class="cell high"') == 2
    for row in groups:
        cell = f"<strong>{score(row['value'])}</strong><span>{score(row['low'])} to {score(row['high'])}</span>"
        assert f"{cell}<span>{row['n']} images</span>" in first_screen
    assert 'href="#confusion"' in first_screen
    matrix = page[page.index('<section id="confusion">') : page.index('<section id="worst-groups">')]
    for row in query(root, "select n from confusion where run_id = 'planted-run'").to_pylist():
        assert f">{row['n']}<span" in matrix
    assert "no group is clearly below it" in page_of(root, "clean-run")


def test_the_model_card_has_accuracy_and_its_lowest_group_from_the_same_views(root: Path) -> None:
    results = read_results(root, "planted-run")
    [worst] = query(root, "select * from worst_groups where run_id = 'planted-run' and rank = 1").to_pylist()
    assert results.accuracy is not None and results.worst is not None
    assert (results.worst["label"], results.worst["value"]) == (worst["label"], worst["value"])
    card = model_card(results)
    way = "with" if worst["present"] else "without"
    assert f"Lowest of {results.worst['cells']} groups by label and attribute: {worst['label']} {way} glasses, " in card
    assert f"{percent(worst['value'])} of {worst['n']} images" in card and "worst_group_accuracy" in card


def test_numbers_read_alike_everywhere(root: Path) -> None:
    """One minus sign, no zero with a sign, and no interval that says nothing."""
    for run in ("planted-run", "clean-run"):
        text = PlainText(page_of(root, run)).text.partition("Configuration")[0]
        assert not re.findall(r"(?:^|[\s(])-\d", text), "an ASCII minus before a number"
        assert not re.findall(r"[+−]0(?:\.0+)?(?![\d.])", text) and "0.0 to 0.0" not in text


@pytest.mark.long
def test_labels_are_what_people_read_and_facts_keep_their_names(tmp_path: Path) -> None:
    labels = {"glasses": "spectacles", "neutral": "a straight face"}
    write_portrait_run(tmp_path, "run", n=48, size=16, labels=labels)
    page = report_html(tmp_path, "run")
    read = PlainText(page).text.partition("Configuration")[0]
    assert headline(page) == read_verdict(tmp_path, "run").headline == "The smile classifier “planted” relies on spectacles"
    assert "a straight face → smiling" in read and "raised brows" in read
    for name in ("glasses", "neutral", "raised_brows"):
        assert not re.search(rf"\b{name}\b", read)
    facts = Page(page).content["questions"]
    assert facts["ranked"]["rows"][0]["attribute"] == "glasses" and facts["runs"]["rows"][0]["classes"][0] == "neutral"
    write_report(tmp_path, "run")
    assert verify(tmp_path, "run").sound


def test_the_page_shows_the_numbers_of_the_view(root: Path) -> None:
    page = page_of(root, "planted-run")
    rows = query(root, "select attribute, effect from ranked_attributes where run_id = 'planted-run' order by rank").to_pylist()
    cells = re.findall(r'data-label="Effect">([+−]?[\d.]+)<', page)
    assert [float(cell.replace("−", "-")) for cell in cells] == [pytest.approx(100 * row["effect"], abs=0.05) for row in rows]
    assert rows[0]["attribute"] == "glasses" and "smile" not in [row["attribute"] for row in rows]


@pytest.mark.long
def test_every_printed_query_can_be_asked_again(root: Path) -> None:
    page = page_of(root, "planted-run")
    shown = [html.unescape(sql) for sql in re.findall(r'<div class="sql">.*?<code>(.*?)</code>', page, re.DOTALL)]
    assert len(shown) == len(EVIDENCE) - 2 + 1 + 2 + 1  # no comparison; the label's twice; a finding has two; the trend
    silent = ("rules", "base", "marks", "agreement", "absent", "examined", "truths", "canary", "carriers", "moved", "pasted")
    empty = {printed(EVIDENCE[name].strip(), run="planted-run", found=FOUND) for name in silent}
    assert {sql for sql in shown if query(root, sql).num_rows == 0} <= empty


def test_a_metric_says_what_it_sees_with_and_one_that_is_absent_says_why(root: Path) -> None:
    page = page_of(root, "planted-run")
    assert "Fréchet distance (FID), seen by the audit&#39;s own attribute model" in page and "12.5" in page
    assert "<code>fid[inception]</code> <code>sfid[inception]</code> (no &lt;weights&gt;)." in page
    assert "Not measured" not in page_of(root, "clean-run")


def test_effect_is_guided_minus_null(root: Path) -> None:
    # The drawn null is on the same scale as the effect: the guided arm's own change is their sum.
    changes = query(root, EVIDENCE["drift"], {"run": "planted-run"}).to_pylist()
    means = {(row["arm"], row["attribute"]): row["change"] for row in changes}
    [first] = query(root, "select * from ranked_attributes where run_id = 'planted-run' and rank = 1").to_pylist()
    assert means["guided", "glasses"] - means["null", "glasses"] == pytest.approx(first["effect"], abs=1e-6)


def test_page_asks_for_nothing_and_runs_nothing(root: Path) -> None:
    page = page_of(root, "planted-run")
    assert "<script" not in page and "http://" not in page and "https://" not in page and "url(" not in page
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert links and all(link.startswith(("data:", "#")) for link in links)
    assert "default-src 'none'" in page


def test_names_from_data_are_text(root: Path) -> None:
    page = page_of(root, "hostile-run")
    assert "<script" not in page and "<img src=x" not in page
    assert all(str(escape(name)) in page for name in HOSTILE.values()) and "&lt;script&gt;alert(" in page


def test_a_failed_run_says_why_in_one_line(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "run", n=8, size=16, status="failed", reason="the endpoint <b>refused</b> 12 calls")
    page = report_html(tmp_path, "run")
    assert "This audit failed before its end: the endpoint &lt;b&gt;refused&lt;/b&gt; 12 calls." in page


def test_what_no_attribute_names_is_the_headline(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, "run", n=24, size=16, planted=False, share=0.2, properties={"warmth": 0.43}, places={60: 0.49})
    page = report_html(tmp_path, "run")
    assert headline(page) == "The smile classifier “clean” relies on the bottom centre and warmth"
    assert "What you named explains 20%" in page and "not enough to clear" in page
    # Its card: six images that have most of it, six that have least.
    card = page[page.index('aria-label="Property warmth"') :]
    assert card.count("An image with most warmth") == card.count("An image with least warmth") == 6
    for phrase in ("nothing outside", "nothing found"):
        assert phrase not in page.lower()


def test_interrupted_run_is_flagged(root: Path) -> None:
    page = page_of(root, "interrupted-run")
    assert "This audit has not finished" in page and "This audit has not finished" not in page_of(root, "planted-run")


def test_run_without_explanations_still_has_a_page(tmp_path: Path, root: Path) -> None:
    started = query(root, "select * exclude (run_id) from facts.runs where run_id = 'interrupted-run'").to_pylist()
    write_shard(tmp_path, "runs", "new-run", "started", {name: [started[0][name]] for name in started[0]})
    page = report_html(tmp_path, "new-run")
    assert headline(page) == "No verdict yet on the smile classifier “planted”"
    assert "This audit has not finished" in page and "nothing explained yet" in page


def test_unknown_run_is_told_the_runs_there_are(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no run 'planed-run' .* the runs are: .*planted-run"):
        report_html(root, "planed-run")
    with pytest.raises(ValueError, match="the runs are: none yet"):
        write_report(tmp_path, "planted-run")


def test_report_is_written_whole_and_written_again(root: Path) -> None:
    path = write_report(root, "clean-run")
    first = path.read_bytes()
    assert path == root / "reports" / "clean-run.html"
    assert write_report(root, "clean-run").read_bytes() == first
    assert sorted(other.name for other in path.parent.iterdir()) == ["clean-run.html", "clean-run.sha256"]
    kept = {(file.parts[-3], file.stem) for file in (root / "kept").glob("*/run_id=clean-run/*.parquet")}
    assert kept == {(view, digest) for (view, _), digest in digests(root, "clean-run").items()}, "a question about all finds them"


@pytest.mark.long
def test_four_hundred_explanations_fit_in_two_megabytes(tmp_path: Path) -> None:
    write_portrait_run(tmp_path, n=400, size=48)
    page = report_html(tmp_path, "planted-demo")
    assert len(page.encode()) < 2_000_000
    assert page.count('<article class="pick ') == RANDOM + BEST + FAILED
