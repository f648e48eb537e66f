"""The gate as continuous integration shows it: plain words and points first, statistics behind them. JUnit XML and Markdown."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from tasks.reading.gate import markdown_text
from warehouse.lens.fetch import Row
from warehouse.lens.gate import IN_WORDS, Gate
from warehouse.report.formatting import markdown_table, number, percent, points

IN_POINTS = {"effect", "edited effect", "error gap", "property", "place", "rise", "edited rise"}
RATES = {"flip rate", "judge flip rate"}
_INTERVAL = re.compile(r" \(95% interval [^)]*\)")
_HASH = re.compile(r"-[0-9a-f]{10}$")  # at the end of a run id, after the audit's name


def heading(found: Gate) -> str:
    """Release check failed: glasses effect 23 points, limit 15, and 2 more"""
    if found.verdict == "pass":
        return f"Release check passed: all {len(found.rules)} checks"
    first, *more = (rule for rule in found.rules if rule["result"] == found.verdict)
    return f"Release check {IN_WORDS[found.verdict]}: {in_words(first)}" + (f", and {len(more)} more" if more else "")


def name(rule: Row) -> str:
    """glasses effect; property warmth; flip rate"""
    if rule["rule"] in ("property", "place"):
        return f"{rule['rule']} {rule['subject']}"
    if rule["rule"] == "explained":
        return "explained share" + (f" of “{rule['subject']}”" if rule["subject"] else "")
    return f"{rule['subject']} {rule['rule']}" if rule["subject"] else str(rule["rule"])


def in_words(rule: Row) -> str:
    """What was found beside its limit, without statistics; of what is undecided also what would decide it."""
    said = _found(rule)
    if rule["result"] == "fail" and rule["rule"] == "effect" and abs(rule["value"]) <= rule["threshold"]:
        return f"{said}; confirmed, and no confirmed attribute passes"
    if rule["result"] != "inconclusive" or said == rule["reason"]:
        return said
    if rule["images_needed"] is not None:
        return f"{said}; too few images, about {rule['images_needed']:,} needed"
    if rule["rule"] in RATES:
        return f"{said}; the audit is too weak to clear anything"
    return f"{said}; {rule['reason'].rpartition('; ')[2]}" if "; " in rule["reason"] else said


def _found(rule: Row) -> str:
    value, limit = rule["value"], rule["threshold"]
    if rule["rule"] in IN_POINTS and value is not None and limit is not None:
        return f"{name(rule)} {_short(100 * value, 100 * limit)} points, limit {number(100 * limit)}"
    if rule["rule"] in RATES:
        return f"{name(rule)} {percent(value)}, at least {number(100 * limit)}% required"
    return _INTERVAL.sub("", rule["reason"])


def _short(value: float, limit: float) -> str:
    """Whole points from 10 on, with as many decimals as it takes to see on which side of the limit they are; no sign but −."""
    fewest = 0 if abs(value) >= 10 else 1
    digits = next((digits for digits in range(fewest, 3) if round(abs(value), digits) != round(limit, digits)), 3)
    text = f"{abs(value):.{digits}f}"
    return f"−{text}" if value < 0 and float(text) else text


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
    rows = [(name(rule), *_numbers(rule), rule["n"], rule["reason"]) for rule in rules]
    statistics = markdown_table(("check", "value", "95 % interval", "bound", "n", "in words"), rows)
    return (
        f"## {markdown_text(heading(found))}\n\nRun `{found.run_id}`: {counts}.\n\n"
        f"### All {len(rules)} release checks\n\n{checks}\n\n"
        f"<details>\n<summary>Statistics</summary>\n\n{statistics}\n\n</details>\n\n"
    )


def _numbers(rule: Row) -> tuple[str, str, str]:
    """Value, interval and bound: in points or percent where the rule is in these."""
    shown = points if rule["rule"] in IN_POINTS else percent if rule["rule"] in RATES | {"explained"} else number
    interval = "–" if rule["low"] is None else f"{shown(rule['low'])} to {shown(rule['high'])}"
    return shown(rule["value"]), interval, "–" if rule["threshold"] is None else shown(rule["threshold"]).removeprefix("+")


def _plain(text: str) -> str:
    """Text without the control characters that XML cannot hold."""
    return "".join(letter for letter in text if letter.isprintable())
