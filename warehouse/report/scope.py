"""What was audited, on what, and through which access: the report's first facts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from warehouse.lens.fetch import Row
from warehouse.report.formatting import count, listed

STRONG, FEW = 0.3, 20  # |phi| of an attribute and a label that is worth a line, of at least so many images
ACCESS = {  # the configuration's `access` -> what could be seen through it
    "torch": "white box: weights and gradients",
    "callable": "black box: answers of a Python function, no gradients",
    "onnx": "black box: answers of an ONNX file, no gradients",
    "kserve": "black box: answers of a KServe endpoint, no gradients",
    "json": "black box: answers of a JSON endpoint, no gradients",
}


MOST = 20  # attributes that are listed by name


def scope(run: Row, splits: Sequence[Row], ranked: Sequence[Row], associations: Sequence[Row] = ()) -> list[tuple[str, str]]:
    """Label and text of each entry; what the configuration does not tell is left out.

    associations: rows of the view label_associations, the strongest first.
    """
    config = json.loads(run["config"])
    classifier = config.get("classifier") or {}
    named, drawn = has(config, "oracle"), has(config, "prior")
    untested = "none yet" if drawn else "seen, none tested: no prior"
    none = untested if named else "none: no oracle"
    entries = [
        ("Classifier", model_name(classifier)),
        ("Access", access(classifier)),
        ("Classes", listed(run["classes"]) if len(run["classes"]) < 8 else f"{len(run['classes'])} classes"),
        ("Label", run["target_attribute"] or ("not among the oracle's attributes" if named else "")),
        ("Images", ", ".join(f"{count(row['n'])} ({row['split']})" for row in splits) or "none yet"),
        ("Sample", run.get("sample") or ""),
        ("Goes with the label", "; ".join(map(_association, filter(_striking, associations)))),
        ("Data", str((config.get("data") or {}).get("images", ""))),
        ("Judge", model_name(config.get("judge") or {}) or "none"),
        ("Attributes looked at", _attributes(ranked) if ranked else none),
        ("Named by", _by_words(config, run.get("words") or ())),
        ("Method", ", then ".join(str(rung.get("method", "")) for rung in _ladder(config)) if drawn else "none: no prior"),
    ]
    return [(label, text) for label, text in entries if text]


def _attributes(ranked: Sequence[Row]) -> str:
    if len(ranked) > MOST:
        return f"{len(ranked)} attributes, ranked below"
    return listed(sorted(row["attribute"] for row in ranked))


def _by_words(config: Mapping[str, Any], words: Sequence[Row]) -> str:
    """The image-text model of an oracle by words, and how its attributes agree with annotations; nothing of another oracle."""
    model = (config.get("oracle") or {}).get("model")
    if model is None:
        return ""
    held = [row for row in words if row["balanced_accuracy"] is not None]
    agreeing = [f"{row['attribute']} {row['balanced_accuracy']:.2f} ({row['low']:.2f}–{row['high']:.2f})" for row in held]
    loose = listed([row["attribute"] for row in words if row["balanced_accuracy"] is None])
    said = f"words, as {model} sees them"
    said += f"; balanced accuracy against annotations: {'; '.join(agreeing[:MOST])}" if held else ""
    return said + (f"; held against nothing: {loose}" if loose else "")


def has(config: Mapping[str, Any], part: str) -> bool:
    """Whether an audit has this part; one whose configuration does not speak of it has."""
    return config.get(part, "unknown") is not None


def _striking(row: Row) -> bool:
    """Whether a classifier may well have learned the attribute instead of the label."""
    return abs(row["phi"]) >= STRONG and row["n"] >= FEW


def _association(row: Row) -> str:
    way = "with" if row["phi"] > 0 else "without"
    return f"“{row['attribute']}” {way} “{row['label']}” (r = {row['phi']:.2f}, {count(row['n'])} images)"


def access(classifier: Mapping[str, object]) -> str:
    """How much of the classifier the audit could see: its `access`, a torch network where it names none."""
    if not classifier:
        return ""
    kind = str(classifier.get("access", "torch"))
    return ACCESS.get(kind, f"unknown: access {kind!r}")


def model_name(classifier: Mapping[str, object]) -> str:
    """The file, function or address of a classifier or judge; nothing for none."""
    match classifier:
        case {"access": "kserve", "url": str(url), "model": str(model)}:
            version = classifier.get("version")
            return f"{model}{f', version {version}' if version else ''} at {url}"
        case {"access": "json", "url": str(url)}:
            return url
        case {"access": "callable", "module": str(function)}:
            return function
        case _:
            return " with ".join(str(classifier[key]) for key in ("module", "weights") if classifier.get(key))


def _ladder(config: dict[str, Any]) -> list[dict[str, Any]]:
    ladder = config.get("ladder")
    return [rung for rung in ladder if isinstance(rung, dict)] if isinstance(ladder, list) else []
