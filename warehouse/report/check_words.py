"""Release checks in plain words and points: what was found beside its limit, without statistics."""

from __future__ import annotations

import re

from warehouse.lens.fetch import Row
from warehouse.report.formatting import number, percent, points, points_between

IN_POINTS = {"effect", "edited effect", "error gap", "property", "place", "rise", "edited rise"}
RATES = {"flip rate", "judge flip rate"}
_INTERVAL = re.compile(r" \(95% interval [^)]*\)")


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


def in_numbers(rule: Row) -> tuple[str, str, str]:
    """Value, interval and bound: in points or percent where the rule is in these."""
    shown = points if rule["rule"] in IN_POINTS else percent if rule["rule"] in RATES | {"explained"} else number
    if rule["low"] is None:
        interval = "–"
    elif shown is points:
        interval = points_between(rule["low"], rule["high"])
    else:
        interval = f"{shown(rule['low'])} to {shown(rule['high'])}"
    return shown(rule["value"]), interval, "–" if rule["threshold"] is None else shown(rule["threshold"]).removeprefix("+")
