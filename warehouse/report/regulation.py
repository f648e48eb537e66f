"""Which section of the report carries evidence for which point of two texts that auditors work with.

EU AI Act: Regulation (EU) 2024/1689, Annex IV (technical documentation). NIST AI 100-1: AI Risk Management Framework 1.0,
function MEASURE.
"""

from __future__ import annotations

from dataclasses import dataclass

ACT, NIST = "EU AI Act, Annex IV", "NIST AI RMF, MEASURE"


@dataclass(frozen=True)
class Point:
    """One point of a text: where it stands, what it asks for in short, and (anchor, name) of the sections."""

    source: str
    place: str
    asks: str
    sections: tuple[tuple[str, str], ...]


SCOPE, CONDITIONS, CANARY = ("scope", "Scope"), ("conditions", "Release checks"), ("canary", "Canary")
ATTRIBUTES, FINDINGS, EXAMPLES = ("attributes", "Attributes"), ("findings", "Findings"), ("gallery", "Examples")
QUALITY, SUBGROUPS, COMPARISON = ("scorecard", "Quality"), ("subgroups", "Subgroups"), ("comparison", "Comparison")
LIMITS, PROVENANCE = ("limits", "Limits"), ("provenance", "Provenance")

CROSSWALK = (
    Point(ACT, "1", "general description of the system and its version", (SCOPE, PROVENANCE)),
    Point(ACT, "2(d)", "data used: provenance, scope, selection, what was left out", (SCOPE, ("rejected", "Rejected inputs"))),
    Point(ACT, "2(g)", "tests, their data and metrics, possibly discriminatory impacts, logs", (CONDITIONS, PROVENANCE)),
    Point(ACT, "3", "capabilities, limits, accuracy for groups, foreseeable side effects", (FINDINGS, SUBGROUPS, LIMITS)),
    Point(ACT, "4", "why the metrics are appropriate", (QUALITY, ATTRIBUTES)),
    Point(ACT, "6", "changes through the lifecycle", (COMPARISON,)),
    Point(ACT, "9", "performance after placing on the market, when audits are scheduled", (COMPARISON, CONDITIONS)),
    Point(NIST, "1.1", "metrics for the most significant risks, and what cannot be measured", (CONDITIONS, LIMITS)),
    Point(NIST, "2.1", "test sets, metrics and tools documented", (SCOPE, PROVENANCE)),
    Point(NIST, "2.3", "performance shown under conditions like deployment", (SUBGROUPS, QUALITY)),
    Point(NIST, "2.5", "validity and reliability; limits of generalisation", (CANARY, LIMITS)),
    Point(NIST, "2.9", "the model explained, its output interpreted in context", (FINDINGS, EXAMPLES, ATTRIBUTES)),
    Point(NIST, "2.11", "fairness and bias evaluated", (SUBGROUPS, FINDINGS)),
    Point(NIST, "2.13", "how effective the metrics and processes themselves are", (CANARY, QUALITY)),
    Point(NIST, "3.1", "risks tracked over time", (COMPARISON,)),
)
