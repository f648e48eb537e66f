"""The names that people write in SQL: views and columns of the schema `lens`, which their queries see before those of `main`.

Facts keep the columns that they were written with, and the program's own SQL reads those; whoever asks finds the same under one
word a thing (docs/reference/names.md). A view here is one of three: a file of warehouse/views/lens, which joins what one looks
for first (path, label, predicted class); a view of `main` whose columns are renamed; or one with the audit's name. Old names
of columns stand last in their view for one version, old names of views stay in `main`.
"""

from __future__ import annotations

_TESTED = {"p": "p_value", "q": "q_value"}
_SHIFT = {"effect": "shift"} | _TESTED
_CLAIM = _SHIFT | {
    "low": "shift_low",
    "high": "shift_high",
    "intervention": "edit_effect",
    "intervention_low": "edit_effect_low",
    "intervention_high": "edit_effect_high",
    "n_interventions": "n_edits",
}

WRITTEN = (  # each is views/lens/<name>.sql
    "runs",
    "run_settings",
    "predictions",
    "outcomes",
    "explanations",
    "attribute_changes",
    "attribute_scores",
    "edit_effects",
    "edits",
    "edit_answers",
)
OLD_VIEWS = {  # old -> new
    "attributes": "attribute_scores",
    "effects": "edit_answers",
    "attribute_effects": "attribute_shifts",
    "image_effects": "image_shifts",
}
OLD_COLUMNS: dict[str, dict[str, str]] = {  # view -> old column -> new
    "runs": {"name": "audit"},
    "audits": {"name": "audit"},
    "predictions": {"class": "predicted"},
    "outcomes": {"source": "predicted", "class": "predicted"},
    "explanations": {"source": "predicted"},
    "edit_effects": {"change": "effect"},
    "findings": {"intervention": "effect"},
    "unnamed_findings": {"intervention": "effect"},
    "verdicts": _CLAIM,
    "claims": _CLAIM,
    "ranked_attributes": _SHIFT | {"status": "verdict"},
    "attribute_tests": _SHIFT,
    "changes": {"effect": "shift", "base_effect": "base_shift"},
    "graded": {"change": "shift"},
    "property_claims": {"p": "p_value", "association_p": "association_p_value"},
    "place_claims": {"p": "p_value"},
    "place_cells": {"p": "p_value"},
    "segment_claims": {"p": "p_value"},
    "accuracy": {"value": "accuracy"},
    "worst_groups": {"value": "accuracy"},
    "confusion": {"class": "predicted", "value": "share"},
    "group_counts": {"class": "predicted"},
    "draws": {"file": "path"},
}
_UNDER_NEW_NAMES: dict[str, tuple[str, dict[str, str]]] = {  # a view by its new name alone: it has no old columns
    "attribute_shifts": ("attribute_effects", _SHIFT),
    "image_shifts": ("image_effects", {"effect": "shift"}),
}
_WITH_AUDIT = (
    "findings", "verdicts", "accuracy", "worst_groups", "subgroups", "confusion", "fairness", "gate", "gate_verdicts", "warnings",
    "scorecard",
)  # fmt: skip

NAMED = (*WRITTEN, *_UNDER_NEW_NAMES, *(name for name in dict.fromkeys((*_WITH_AUDIT, *OLD_COLUMNS)) if name not in WRITTEN))


def made_of(name: str) -> str:
    """The fact or view of `main` that a view of the schema `lens` shows under other names; of a new one, its own name."""
    return _UNDER_NEW_NAMES[name][0] if name in _UNDER_NEW_NAMES else name


def renamed(name: str) -> dict[str, str]:
    """New column -> the old one whose meaning it has."""
    old = _UNDER_NEW_NAMES[name][1] if name in _UNDER_NEW_NAMES else OLD_COLUMNS.get(name, {})
    return {new: before for before, new in reversed(old.items())}


def renaming_sql(name: str) -> str:
    """The SQL of a view that no file writes: the view of `main`, with the audit's name and its columns renamed."""
    columns = ", ".join(f"{old} as {new}" for new, old in renamed(name).items())
    kept = "".join(f", v.{old}" for old in OLD_COLUMNS.get(name, {}))
    shown = f"v.* exclude (run_id){f' rename ({columns})' if columns else ''}{kept}"
    audit = name in _WITH_AUDIT
    join = "\nleft join (select run_id, name as audit from main.runs) using (run_id)" if audit else ""
    return (
        f"create view lens.{name} as\nselect v.run_id, {'audit, ' if audit else ''}{shown}\nfrom main.{made_of(name)} v{join};\n"
    )
