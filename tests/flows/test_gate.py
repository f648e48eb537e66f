"""The gate as continuous integration sees it: exit codes, JSON, JUnit XML, Markdown; and what a comparison prints."""

import html
import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli import app
from flows.settings import load
from tasks.reading.gate import Policy
from warehouse.lens.connect import query
from warehouse.report.check_words import in_numbers, in_words
from warehouse.report.embedded_numbers import Page
from warehouse.report.formatting import capital, reason
from warehouse.report.names import Names

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "warehouse"))
from portrait_run import write_portrait_run  # noqa: E402

HOSTILE = "<b>|hat\x07"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, "planted-run", n=96, size=16, names={"hat": HOSTILE})
    write_portrait_run(root, "clean-run", n=96, size=16, planted=False, names={"hat": HOSTILE})
    write_portrait_run(root, "small-run", n=20, size=16)
    return root


def said(root: Path, *arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(app, [*arguments, "-w", str(root)])
    return ended.exit_code, ended.output


@pytest.mark.parametrize(
    ("run", "code", "verdict"), [("planted-run", 1, "fail"), ("clean-run", 0, "pass"), ("small-run", 3, "inconclusive")]
)
def test_exit_code_and_json_say_the_same_as_the_view(root: Path, run: str, code: int, verdict: str) -> None:
    ended, printed = said(root, "gate", run, "--json")
    found = json.loads(printed)
    assert (ended, found["verdict"]) == (code, verdict)
    [row] = query(root, f"from gate_verdicts where run_id = '{run}'").to_pylist()
    assert (row["verdict"], row["reasons"], row["images_needed"]) == (verdict, found["reasons"], found["images_needed"])
    assert any("glasses" in reason for reason in found["reasons"]) == (run != "clean-run")


RULES = (
    "select rule, subject, result, value, low, high, threshold, n, reason from gate where run_id = '{}' order by place, subject"
)
CELLS = re.compile(r"<t[hd][^>]*>(.*?)</t[hd]>", re.DOTALL)


ORDER = ("fail", "inconclusive", "pass")  # on the page, what decides comes first


def tables(page: str) -> list[list[list[str]]]:
    """The tables of the report's release checks, in words and in numbers, as a reader sees them."""
    section = page.split('<section id="conditions">')[1].split("</section>")[0]
    bodies = [part.split("</tbody>")[0] for part in section.split("<tbody")[1:]]
    rows = [[CELLS.findall(row) for row in body.split("</tr>")[:-1]] for body in bodies]
    return [[[html.unescape(re.sub("<.*?>", " ", cell)).strip() for cell in row] for row in body] for body in rows]


def pill(rules: list[dict[str, Any]]) -> str:
    """What the first screen says of the release check."""
    results = [rule["result"] for rule in rules]
    failed, undecided = results.count("fail"), results.count("inconclusive")
    if failed:
        return f"Release check failed · {failed} of {len(rules)}"
    return f"Release check open · {undecided} of {len(rules)} undecided" if undecided else f"passed · all {len(rules)}"


@pytest.mark.parametrize("run", ["planted-run", pytest.param("clean-run", marks=pytest.mark.long), "small-run"])
def test_report_gate_and_query_say_the_same(root: Path, run: str) -> None:
    gate = json.loads(said(root, "gate", run, "--json")[1])
    rules = json.loads(said(root, "query", RULES.format(run), "-f", "json")[1])
    assert [{name: rule[name] for name in rules[0]} for rule in gate["rules"]] == rules
    page = Path(json.loads(said(root, "report", run, "--json")[1])["path"]).read_text()
    assert pill(rules) in page and f"All {len(rules)} release checks" in page
    shown = Page(page).content["questions"]["rules"]["rows"]
    assert [(rule["result"], rule["reason"]) for rule in shown] == [(rule["result"], rule["reason"]) for rule in rules]
    words, numbers = tables(page)
    ordered = [Names().row(rule) for rule in sorted(rules, key=lambda rule: ORDER.index(rule["result"]))]
    assert len(words) == len(numbers) == len(rules) > 5
    for (result, check), (subject, *shown_numbers, n), rule in zip(words, numbers, ordered, strict=True):
        assert result == {"fail": "failed", "inconclusive": "open", "pass": "passed"}[rule["result"]]
        assert reason(rule["reason"]) in subject
        assert check == capital(reason(in_words(rule | {"images_needed": of(gate, rule, "images_needed")})))
        assert (tuple(shown_numbers), n) == (in_numbers(rule), str(rule["n"]))


def of(gate: dict[str, Any], rule: dict[str, Any], column: str) -> Any:
    """A column that the query above leaves out, from the command's own answer."""
    return next(each[column] for each in gate["rules"] if Names().row(each)["reason"] == rule["reason"])


def test_an_unknown_run_is_bad_input(root: Path) -> None:
    assert said(root, "gate", "nobody")[0] == 2


def test_junit_and_markdown_hold_every_rule_and_no_html(root: Path, tmp_path: Path) -> None:
    xml, page = tmp_path / "gate.xml", tmp_path / "gate.md"
    code, _ = said(root, "gate", "planted-run", "--junit", str(xml), "--summary", str(page))
    rules = query(root, "from gate where run_id = 'planted-run'").to_pylist()
    [suite] = ElementTree.parse(xml).getroot()
    assert code == 1 and len(list(suite.iter("testcase"))) == len(rules) == int(suite.get("tests", ""))
    [failed] = suite.iter("failure")
    assert re.fullmatch(r"glasses effect \d+ points, limit 15", str(failed.get("message")))
    text = page.read_text()
    assert text.startswith(f"## Release check failed: {failed.get('message')}\n") and f"All {len(rules)} release checks" in text
    assert "<b>" not in text and text.count("\n| ") == 2 * (len(rules) + 1)


def test_a_policy_file_and_a_base_are_kept(root: Path, tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text("forbidden: [beard]\nmaximum_effect: 0.3\nmaximum_cd_rise: null\n")
    assert said(root, "gate", "planted-run", "--policy", str(tmp_path / "gate.yaml"))[0] == 0
    assert said(root, "gate", "planted-run")[0] == 0  # still held to it
    code, printed = said(root, "gate", "planted-run", "--against", "clean-run", "--json")
    assert code == 0 and [rule["subject"] for rule in json.loads(printed)["rules"] if rule["rule"] == "rise"] == ["beard"]
    (tmp_path / "gate.yaml").write_text("forbiden: [beard]\n")
    code, printed = said(root, "gate", "planted-run", "--policy", str(tmp_path / "gate.yaml"))
    assert code == 2 and "forbiden" in printed
    (tmp_path / "gate.yaml").write_text("{}\n")
    said(root, "gate", "planted-run", "--policy", str(tmp_path / "gate.yaml"))


def test_compare_pairs_the_images(root: Path) -> None:
    code, printed = said(root, "compare", "planted-run", "clean-run", "--json")
    found = json.loads(printed)
    assert code == 0 and found["attributes"][0]["attribute"] == "glasses" and found["attributes"][0]["low"] > 0
    edits = {row["attribute"]: row for row in found["edits"]}
    assert edits["glasses"]["change"] > edits["glasses"]["low"] > 0
    printed = said(root, "compare", "planted-run", "clean-run")[1]
    assert "glasses" in printed and "the attribute alone, edited" in printed


def test_the_examples_are_whole() -> None:
    assert load(Policy, ROOT / "examples" / "gate.yaml").forbidden is not None
    job = yaml.safe_load((ROOT / "examples" / "ci.yaml").read_text())
    steps = [step.get("run", "") for step in job["jobs"]["audit"]["steps"]]
    assert any("cfx gate" in step and "--junit" in step for step in steps)
