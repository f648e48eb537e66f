"""After a repair: the repaired classifier's own audit as a YAML file, what changed, and the page that shows it."""

from __future__ import annotations

import csv
from contextlib import closing
from pathlib import Path, PurePath
from typing import Any, cast

import yaml
from pydantic import BaseModel

from cfx.classifiers import ClassifierConfig
from flows.paths import absolute
from tasks.check import prior_of
from tasks.config import AuditConfig
from tasks.reading.gate import Policy, gate, policy_of
from tasks.training.repair import Repaired, Subject, record, repaired_config
from warehouse.evidence.training_set import HELD_OUT
from warehouse.lens.connect import open_warehouse, query
from warehouse.lens.fetch import Row, fetch
from warehouse.lens.wholeness import refuse_damaged

KINDS = ("access", "method")  # settings that tell kinds of a section apart
USE = "use"  # column of the table of a repair: train, held_out, or neither
ENOUGH = 2  # times the gate's minimum of images, held out: then they are audited alone
IMAGES = "from images where run_id = $run order by path"
EDITED = """
    select attribute, effect, low, high, n from interventions where run_id = $run and list_contains($attributes, attribute)
    order by attribute
"""
OPENING = """# The audit of the repaired classifier, written by `cfx repair {run}`; again: cfx audit {name}
# {who}
"""


def audit_of_repair(root: Path, subject: Subject, found: Repaired) -> tuple[Path, bool]:
    """Write the audit's YAML, and the table that says which image was trained on, beside the weights.

    Returns the YAML's path, and whether the held-out images are audited alone: where they are ENOUGH times the gate's minimum.
    Fewer would decide nothing, so then it is all images of the run again.
    """
    run, config = subject.run, subject.config
    policy = policy_of(root, found.run_id)[0] or config.gate or Policy()
    table, names = _write_table(root, subject, found.weights.with_suffix(".csv"))
    alone = found.held_out >= ENOUGH * policy.minimum_images
    data = config.data
    if alone:
        selected = {"table": table, "file_column": "file", "label_column": "label", "attribute_columns": names}
        selected |= {"split_column": USE, "split": HELD_OUT, "limit": None, "labels": {}, "annotations": None}
        data = data.model_copy(update=selected)
    classifier = repaired_config(cast(ClassifierConfig, config.classifier), subject.classifier, found.weights)
    sections: dict[str, Any] = {"name": f"{config.name}-repaired", "warehouse": str(root), "data": data, "classifier": classifier}
    sections |= {name: getattr(config, name) for name in config.model_fields_set - {*sections, "gate"}} | {"gate": policy}
    if config.prior is not None and config.prior.train is not None:
        sections["prior"] = {"path": str(prior_of(config))}
    spared = {name: _spared(sections[name]) for name in ("name", *AuditConfig.model_fields) if name in sections}
    usual = {name: field.get_default(call_default_factory=True) for name, field in AuditConfig.model_fields.items()}
    values = {name: value for name, value in spared.items() if sections[name] != usual[name]}
    values = absolute(AuditConfig, values, Path.cwd())
    to = found.weights.with_suffix(".yaml")
    who = (
        "It sees the images alone that the repair did not see: those whose `use` is held_out in the table."
        if alone
        else f"It sees all images of the first audit, {found.trained_on['original']} of which were trained on ({table.name})."
    )
    opening = OPENING.format(run=run["run_id"], name=to.name, who=who)
    to.write_text(opening + yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return to, alone


def _spared(value: Any) -> Any:
    """A setting as YAML has it, without what is the default; which kind of section it is, is said."""
    if isinstance(value, BaseModel):
        said = value.model_dump(mode="json", exclude_defaults=True)
        return said | {kind: getattr(value, kind) for kind in KINDS if hasattr(value, kind)}
    if isinstance(value, tuple):
        return [_spared(each) for each in value]
    return str(value) if isinstance(value, PurePath) else value


def _write_table(root: Path, subject: Subject, to: Path) -> tuple[Path, tuple[str, ...]]:
    """The run's images with their labels, annotations and use; returns the path, absolute, and the attributes annotated."""
    used = {each.source: each.split for each in subject.data.samples if each.kind == "original"}
    with closing(open_warehouse(root, sql=IMAGES)) as lens:
        refuse_damaged(lens, subject.run["run_id"])
        rows = fetch(lens, IMAGES, run=subject.run["run_id"])
    names = tuple(
        name.removeprefix("a_") for name in rows[0] if name.startswith("a_") and any(row[name] is not None for row in rows)
    )
    with to.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "label", USE, *names])
        for row in rows:
            values = (row[f"a_{name}"] for name in names)
            marks = ("" if value is None else int(value) for value in values)
            writer.writerow([row["path"], row["label"] or "", used.get(row["image_id"], ""), *marks])
    return to.resolve(), names


def before_and_after(root: Path, found: Repaired, new_run: str | None, held_out_alone: bool) -> Row:
    """The repair's record, with what the audits before and, if there is one, after it say: gate and edited effects."""
    said = record(found)
    said["audited"] = "held_out" if held_out_alone else "all"
    for moment, run in (("before", found.run_id), ("after", new_run)):
        said[moment]["audit"] = None if run is None else _audited(root, run, found)
    return said


def _audited(root: Path, run_id: str, found: Repaired) -> Row:
    release = gate(root, run_id)
    effects = query(root, EDITED, {"run": run_id, "attributes": list(found.attributes)}).to_pylist()
    return {
        "run": run_id,
        "gate": release.verdict,
        "reasons": list(release.reasons),
        "edited": {row.pop("attribute"): row for row in effects},
    }
