"""Repair the planted classifier of smiles by each method, and grade it on portraits that no repair has seen.

    .venv/bin/python -m benchmarks.repair --json                    # everything
    .venv/bin/python -m benchmarks.repair --only demo --folder F    # the demo's data, in F; audits that are there are taken

Two sets of audited images: the demo's, in which glasses go with nothing, and one as the classifier was trained on, in which they
agree with nine labels in ten and one label in twelve is wrong. The repair sees what a user has: images, labels, annotations,
edits and counterfactuals. What grades it is rendered anew, with seeds of its own: portraits with independent attributes, each
drawn with and without glasses, and for the default method a second audit, of portraits that the repair never saw.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfx.classifiers import ClassifierConfig, TorchClassifier, load_classifier
from cfx.images import from_uint8
from cfx.portraits import ATTRIBUTES, draw, true_effects, write_portraits
from cfx.training.portraits import rendered
from cfx.training.repair import Repair, RepairMethod
from flows.config import load_config
from flows.demo import demo_config, lay_out
from flows.in_process import audit_in_process
from flows.repair import audit_of_repair, before_and_after
from tasks.check import check
from tasks.config import AuditConfig
from tasks.training.auto import expect_networks
from tasks.training.repair import repair, subject_of
from warehouse.lens.connect import open_warehouse
from warehouse.lens.fetch import fetch
from warehouse.lens.gate import gate
from warehouse.report.repair import write_page

METHODS: tuple[RepairMethod, ...] = ("fine-tune", "reweight", "last-layer")
DEMO, BIASED, FRESH = 128, 256, 128  # portraits of each audit
BIASED_SEED, FRESH_SEED = 2027, 2028  # of audited portraits; the demo's is 2026
GRADED, GRADING_SEED, TRUTH, TRUTH_SEED = 4_000, 31_001, 500, 31_002  # portraits that grade
BIAS = {"smile": 0.92, "glasses": 0.90}  # agreement with the label, as in the classifier's training
GLASSES = ATTRIBUTES.index("glasses")


def config_of(folder: Path, data: str) -> AuditConfig:
    """The audit of one set of images, which are written if they are not there."""
    config = demo_config(folder, "planted", DEMO)
    if data == "demo":
        if not (folder / "portraits").exists():
            lay_out(folder, DEMO)
        return config
    n, seed, agreement = (BIASED, BIASED_SEED, BIAS) if data == "biased" else (FRESH, FRESH_SEED, {"smile": 1.0})
    if not (folder / data).exists():
        write_portraits(folder / data, n, seed, agreement)
    own = {"images": folder / data / "images", "table": folder / data / "attributes.csv", "limit": None}
    named = {"name": f"portraits-{data}", "data": config.data.model_copy(update=own), "saliency": None}
    return config.model_copy(update=named)


def audited(config: AuditConfig) -> str:
    """The newest finished run of this name, or one made now."""
    sql = "select run_id from runs where name = $name and status = 'finished' order by finished desc limit 1"
    if config.warehouse.exists():
        with closing(open_warehouse(config.warehouse, sql=sql)) as lens:
            for row in fetch(lens, sql, name=config.name):
                return str(row["run_id"])
    return audit_in_process(check(config, expect_networks))


@cache
def grading() -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and attributes of the portraits that grade."""
    return rendered(GRADED, GRADING_SEED)


@torch.no_grad()
def graded(classifier: TorchClassifier) -> dict[str, Any]:
    """Accuracy, worst group of label and glasses, and the exact effect of glasses, on portraits with independent attributes."""
    images, labels, attributes = grading()
    right = torch.cat([classifier(from_uint8(part)).argmax(1) for part in images.split(250)]) == labels
    groups = [
        float(right[(labels == label) & (attributes[:, GLASSES] == value)].float().mean()) for label in (0, 1) for value in (0, 1)
    ]
    truth = {each.attribute: each.effect for each in true_effects(classifier, [one for _, one in draw(TRUTH, TRUTH_SEED)])}
    return {
        "accuracy": float(right.float().mean()),
        "worst_group": min(groups),
        "true_effect_glasses": truth["glasses"],
        "true_effect_smile": truth["smile"],
    }


def rows_of(folder: Path, data: str, audits: bool) -> list[dict[str, Any]]:
    """A row before, and one a method; with `audits`, the default method's row says what the audits after it found."""
    began = time.monotonic()
    config = config_of(folder, data)
    run_id = audited(config)
    before = {"data": data, "method": "none", **graded(load_classifier(ClassifierConfig(weights=Path("portraits:planted"))))}
    rows = [before | {"audit_seconds": round(time.monotonic() - began, 1), "gate": gate(config.warehouse, run_id).verdict}]
    for method in METHODS:
        started, spent = time.monotonic(), _cpu()
        subject = subject_of(config.warehouse, run_id)
        to = folder / f"{data}-{method}.safetensors"
        found = repair(config.warehouse, subject, Repair(method=method), to)
        row = {"data": data, "method": method, **graded(load_classifier(ClassifierConfig(weights=to)))}
        if audits and method == METHODS[0]:
            row |= _audits(folder, config, subject, found)
        held = {"held_out_accuracy": found.after.accuracy, "held_out_worst_group": found.after.groups[found.after.worst_group]}
        row |= held | {"trained_on": dict(found.trained_on)}
        rows.append(row | {"seconds": round(time.monotonic() - started, 1), "cpu_seconds": round(_cpu() - spent, 1)})
        print(rows[-1], file=sys.stderr)  # noqa: T201
    return rows


def _audits(folder: Path, config: AuditConfig, subject: Any, found: Any) -> dict[str, Any]:
    """The repaired classifier's audits: of the images that `cfx repair` audits it on, and of portraits that it never saw."""
    file, alone = audit_of_repair(config.warehouse, subject, found)
    again = audit_in_process(check(load_config(file), expect_networks))
    said = before_and_after(config.warehouse, found, again, alone)
    write_page(config.warehouse, said, found.weights.with_suffix(".html"))
    unseen = config_of(folder, "fresh").model_copy(update={"classifier": load_config(file).classifier})
    fresh = audit_in_process(check(unseen, expect_networks))
    with closing(open_warehouse(config.warehouse, sql="from interventions")) as lens:
        sql = "select effect, low, high, n from interventions where run_id = $run and attribute = 'glasses'"
        edited = {name: fetch(lens, sql, run=run) for name, run in (("before", found.run_id), ("again", again), ("fresh", fresh))}
    gates = {name: gate(config.warehouse, run).verdict for name, run in (("again", again), ("fresh", fresh))}
    return {"edited_glasses": {name: rows[0] for name, rows in edited.items()}, "gates": gates, "audited_again": said["audited"]}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("cfx-repair"), help="where data, facts and weights go")
    parser.add_argument("--only", choices=("demo", "biased"), help="one set of images alone")
    parser.add_argument("--no-audits", action="store_true", help="do not audit the repaired classifier")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, as the last line")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        row
        for data in ([given.only] if given.only else ["demo", "biased"])
        for row in rows_of(given.folder, data, not given.no_audits and data == "demo")
    ]
    hardware = f"{platform.machine()}, {torch.get_num_threads()} thread"
    if given.json:
        print(json.dumps([row | {"hardware": hardware} for row in rows]))  # noqa: T201


if __name__ == "__main__":
    main()
