"""The gate as continuous integration shows it: plain words and points first, statistics behind them. JUnit XML and Markdown."""

from __future__ import annotations

import re
from xml.etree import ElementTree  # nosec B405 # writes XML and reads none

from tasks.reading.gate import markdown_text
from warehouse.lens.gate import IN_WORDS, Gate
from warehouse.report.check_words import in_numbers, in_words, name
from warehouse.report.formatting import markdown_table

_HASH = re.compile(r"-[0-9a-f]{10}$")  # at the end of a run id, after the audit's name


def heading(found: Gate) -> str:
    """Release check failed: glasses effect 23 points, limit 15, and 2 more"""
    if found.verdict == "pass":
        return f"Release check passed: all {len(found.rules)} checks"
    first, *more = (rule for rule in found.rules if rule["result"] == found.verdict)
    return f"Release check {IN_WORDS[found.verdict]}: {in_words(first)}" + (f", and {len(more)} more" if more else "")


def junit(found: Gate) -> str:
    """The rules as JUnit XML: a failed rule is a failure, an inconclusive one an error, so that no CI takes it for a pass.

    A check keeps its name from run to run, so that a CI can follow it: its class is the audit's name.
    """
    results = [rule["result"] for rule in found.rules]
    counts = {"tests": len(results), "failures": results.count("fail"), "errors": results.count("inconclusive"), "skipped": 0}
    counted = {key: str(n) for key, n in counts.items()} | {"time": "0"}
    suites = ElementTree.Element("testsuites", {"name": "cfx gate"} | counted)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": heading(found)} | counted)
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in {"run": found.run_id, "verdict": found.verdict, "images_needed": found.images_needed}.items():
        if value is not None:
            ElementTree.SubElement(properties, "property", name=key, value=_plain(str(value)))
    for rule in found.rules:
        case = ElementTree.SubElement(suite, "testcase", classname=_HASH.sub("", found.run_id), name=_plain(name(rule)), time="0")
        if rule["result"] == "pass":
            ElementTree.SubElement(case, "system-out").text = _plain(rule["reason"])
        else:
            kind = "failure" if rule["result"] == "fail" else "error"
            said = ElementTree.SubElement(case, kind, message=_plain(in_words(rule)), type=rule["result"])
            said.text = _plain(rule["reason"])
    suite.set("name", _plain(suite.get("name", "")))
    return str(ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)) + "\n"


def summary(found: Gate) -> str:
    """The verdict and its rules as Markdown, for a CI's summary page: what decides first, the statistics folded."""
    rules = sorted(found.rules, key=lambda rule: list(IN_WORDS).index(rule["result"]))
    counts = ", ".join(
        f"{n} {word}" for result, word in IN_WORDS.items() if (n := sum(rule["result"] == result for rule in rules))
    )
    checks = markdown_table(("result", "check"), [(IN_WORDS[rule["result"]], in_words(rule)) for rule in rules])
    rows = [(name(rule), *in_numbers(rule), rule["n"], rule["reason"]) for rule in rules]
    statistics = markdown_table(("check", "value", "95 % interval", "bound", "n", "in words"), rows)
    return (
        f"## {markdown_text(heading(found))}\n\nRun `{found.run_id}`: {counts}.\n\n"
        f"### All {len(rules)} release checks\n\n{checks}\n\n"
        f"<details>\n<summary>Statistics</summary>\n\n{statistics}\n\n</details>\n\n"
    )


def _plain(text: str) -> str:
    """Text without the control characters that XML cannot hold."""
    return "".join(letter for letter in text if letter.isprintable())
