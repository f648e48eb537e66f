"""What was audited, on what, and through which access: the report's first facts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from warehouse.lens.fetch import Row
from warehouse.report.formatting import count, listed


def scope(run: Row, splits: Sequence[Row], ranked: Sequence[Row]) -> list[tuple[str, str]]:
    """Label and text of each entry; what the configuration does not tell is left out."""
    config = json.loads(run["config"])
    classifier = config.get("classifier") or {}
    entries = [
        ("Classifier", _named(classifier)),
        ("Access", access(classifier)),
        ("Classes", listed(run["classes"]) if len(run["classes"]) < 8 else f"{len(run['classes'])} classes"),
        ("Label", run["target_attribute"] or "not among the oracle's attributes"),
        ("Images", ", ".join(f"{count(row['n'])} ({row['split']})" for row in splits) or "none yet"),
        ("Data", str((config.get("data") or {}).get("images", ""))),
        ("Judge", _named(config.get("judge") or {}) or "none"),
        ("Attributes looked at", listed(sorted(row["attribute"] for row in ranked)) if ranked else "none yet"),
        ("Method", ", then ".join(str(rung.get("method", "")) for rung in _ladder(config))),
    ]
    return [(label, text) for label, text in entries if text]


def access(classifier: dict[str, Any]) -> str:
    """How much of the classifier the audit could see."""
    if not classifier:
        return ""
    closed = next((key for key in ("endpoint", "url", "function", "callable") if classifier.get(key)), None)
    if closed or str(classifier.get("weights") or "").endswith(".onnx"):
        return "black box: its answers only, no gradients"
    return "white box: weights and gradients"


def _named(part: dict[str, Any]) -> str:
    return str(next((part[key] for key in ("weights", "endpoint", "url", "function", "callable", "name") if part.get(key)), ""))


def _ladder(config: dict[str, Any]) -> list[dict[str, Any]]:
    ladder = config.get("ladder")
    return [rung for rung in ladder if isinstance(rung, dict)] if isinstance(ladder, list) else []
