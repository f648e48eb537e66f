"""Which section of the report, and which view, answers which point of the texts that auditors work with, and what none does.

EU AI Act: Regulation (EU) 2024/1689, Annex IV (technical documentation). NIST AI 100-1: AI Risk Management Framework 1.0,
function MEASURE. ISO/IEC TR 24027:2021: Bias in AI systems and AI aided decision making. GMLP: Good Machine Learning Practice for
Medical Device Development: Guiding Principles (FDA, Health Canada, MHRA, October 2021), by their number. What a text asks for is
put in our own words.
"""

from __future__ import annotations

from dataclasses import dataclass

ACT, NIST = "EU AI Act, Annex IV", "NIST AI RMF, MEASURE"
BIAS, GMLP = "ISO/IEC TR 24027, clause", "FDA GMLP, principle"


@dataclass(frozen=True)
class Point:
    """One point of a text: where it stands, what it asks for in short, and where the answer is.

    sections: (anchor, name) of the report's; views: whose key figures answer it; unanswered: what an audit does not say of it.
    """

    source: str
    place: str
    asks: str
    sections: tuple[tuple[str, str], ...]
    views: tuple[str, ...]
    unanswered: str


SCOPE, CONDITIONS, CANARY = ("scope", "Scope"), ("conditions", "Release checks"), ("canary", "Canary")
ATTRIBUTES, FINDINGS, EXAMPLES = ("attributes", "Attributes"), ("findings", "Findings"), ("gallery", "Gallery")
QUALITY, SUBGROUPS, COMPARISON = ("scorecard", "Quality"), ("subgroups", "Subgroups"), ("comparison", "Comparison")
MATRIX, FAIRNESS, WORST = ("confusion", "Confusion matrix"), ("fairness", "Fairness"), ("worst-groups", "Lowest groups")
LIMITS, PROVENANCE, REJECTED = ("limits", "Limits"), ("provenance", "Provenance"), ("rejected", "Rejected inputs")

CROSSWALK = (
    Point(
        ACT, "1", "general description of the system and its version", (SCOPE, PROVENANCE), ("runs",),
        "intended purpose, provider, forms of distribution, interfaces, instructions for use",
    ),
    Point(
        ACT, "2(d)", "data used: provenance, scope, selection, what was left out", (SCOPE, REJECTED), ("images", "rejected"),
        "how the training data were obtained, labelled and cleaned: an audit sees the audited images",
    ),
    Point(
        ACT, "2(g)", "tests, their data and metrics, possibly discriminatory impacts, logs", (CONDITIONS, PROVENANCE),
        ("accuracy", "fairness", "gate"), "robustness tests beyond this audit; date and signature of the persons responsible",
    ),
    Point(
        ACT, "3", "capabilities, limits, accuracy for groups, foreseeable side effects", (FINDINGS, WORST, LIMITS),
        ("accuracy", "worst_groups", "findings"),
        "risks to health, safety and fundamental rights in use; human oversight; input data",
    ),
    Point(
        ACT, "4", "why the metrics are appropriate", (QUALITY, ATTRIBUTES), ("explained_share",),
        "why these metrics suit the intended purpose",
    ),
    Point(ACT, "6", "changes through the lifecycle", (COMPARISON,), ("changes",), "changes that no audit was run on"),
    Point(
        ACT, "9", "performance after placing on the market, when audits are scheduled", (COMPARISON, CONDITIONS),
        ("gate", "changes"), "the plan for monitoring after placing on the market",
    ),
    Point(
        NIST, "1.1", "metrics for the most significant risks, and what cannot be measured", (CONDITIONS, LIMITS),
        ("gate", "explained_share"), "which risks are the most significant: that is mapped before",
    ),
    Point(
        NIST, "2.1", "test sets, metrics and tools documented", (SCOPE, PROVENANCE), ("images", "runs"),
        "tests other than this audit",
    ),
    Point(
        NIST, "2.3", "performance shown under conditions like deployment", (SUBGROUPS, QUALITY), ("accuracy", "worst_groups"),
        "whether the audited images are like those of deployment",
    ),
    Point(
        NIST, "2.5", "validity and reliability; limits of generalisation", (CANARY, LIMITS), ("accuracy", "explained_share"),
        "behaviour outside of the audited data",
    ),
    Point(NIST, "2.6", "safety risks evaluated", (), (), "all of it"),
    Point(NIST, "2.7", "security and resilience evaluated", (), (), "all of it: an audit attacks nothing"),
    Point(
        NIST, "2.9", "the model explained, its output interpreted in context", (FINDINGS, EXAMPLES, ATTRIBUTES), ("findings",),
        "the context: who reads the output, and what for",
    ),
    Point(NIST, "2.10", "privacy risk examined", (), (), "all of it, of the system; this audit withholds rates of small groups"),
    Point(
        NIST, "2.11", "fairness and bias evaluated", (FAIRNESS, WORST, FINDINGS), ("fairness", "worst_groups", "interventions"),
        "groups that nobody annotated and no attribute model sees",
    ),
    Point(NIST, "2.12", "environmental impact assessed", (), (), "all of it"),
    Point(
        NIST, "2.13", "how effective the metrics and processes themselves are", (CANARY, QUALITY), ("canaries",),
        "the effectiveness of the organisation's own processes",
    ),
    Point(NIST, "3.1", "risks tracked over time", (COMPARISON,), ("changes",), "risks that were not audited before"),
    Point(
        BIAS, "6", "sources of unwanted bias: human, data, engineering decisions", (SCOPE, FINDINGS),
        ("label_associations", "findings"), "human bias and engineering decisions; training data other than the audited",
    ),
    Point(
        BIAS, "7",
        "assessment: confusion matrix, equalized odds, equality of opportunity, demographic parity, predictive equality",
        (MATRIX, FAIRNESS), ("confusion", "fairness"), 
        "which of these measures is the right one: they exclude one another in general",
    ),
    Point(
        BIAS, "8", "treatment of unwanted bias through the life cycle", (COMPARISON, CONDITIONS), ("gate", "changes"),
        "the treatment itself: an audit before and after it shows what it did",
    ),
    Point(GMLP, "1", "expertise of several disciplines, through the whole life cycle", (), (), "all of it"),
    Point(GMLP, "2", "good software engineering and security practices", (), (), "all of it, of the device's software"),
    Point(
        GMLP, "3", "data sets represent the intended patients", (SCOPE, SUBGROUPS), ("images", "worst_groups"),
        "who the intended patients are",
    ),
    Point(
        GMLP, "4", "training data independent of test data", (SCOPE,), ("images",),
        "which images the classifier was trained on",
    ),
    Point(
        GMLP, "5", "reference standard by the best available methods", (SCOPE,), ("images",), "how the labels came about",
    ),
    Point(
        GMLP, "6", "model suits the data and the intended use; known risks, such as overfitting, are mitigated", (FINDINGS,),
        ("findings", "explained_share"), "the intended use",
    ),
    Point(GMLP, "7", "performance of the human and the model together", (), (), "all of it: an audit sees no user"),
    Point(
        GMLP, "8", "tests show performance in clinically relevant conditions, and in subgroups", (SUBGROUPS, QUALITY),
        ("accuracy", "worst_groups"), "clinical relevance; devices, sites and users beyond the audited images",
    ),
    Point(
        GMLP, "9", "users get clear, essential information", (LIMITS, FINDINGS), ("findings", "worst_groups"),
        "instructions for use",
    ),
    Point(
        GMLP, "10", "deployed models are monitored, risks of retraining managed", (COMPARISON, CONDITIONS), ("gate", "changes"),
        "who watches, and how often",
    ),
)  # fmt: skip
