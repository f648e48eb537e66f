"""The demo: audit the classifier with a planted shortcut and its clean twin, on Portraits, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cfx.portraits import write_portraits
from tasks.config import AuditConfig
from warehouse.lens.connect import query

TWINS = ("planted", "clean")
SEED = 2026  # of the audited portraits; nothing was trained on it
KNOWN = ("smile", "glasses")  # attributes whose region is written too: what is to be learned, and the shortcut

FOUND = {  # what `findings` queries of a run
    "rates": "select metric, value from scorecard where run_id = $run and metric in ('fr', 'judge_fr')",
    "attributes": """
        select attribute, effect, low, high, q, intervention, intervention_low, intervention_high, n, n_interventions,
            verdict, images_needed, rests_on
        from verdicts where run_id = $run order by rank
    """,
    "absent": "select reason, list(metric order by metric) as metrics from absent where run_id = $run group by all order by 1",
    "warnings": """
        select if(about = 'audit', '', about || ': ') || warning as warning
        from warnings where run_id = $run order by about <> 'audit', about
    """,
    "audit_warnings": "select warning from warnings where run_id = $run and about = 'audit'",
    "explained": "from explained_share where run_id = $run order by class",
    "findings": "from findings where run_id = $run order by rank",
    "canary": "from canaries where run_id = $run",
}


def demo_config(folder: Path, twin: str, images: int) -> AuditConfig:
    """The demo's audit of one twin; written out, it is examples/portraits.yaml."""
    return AuditConfig.model_validate(
        {
            "name": f"portraits-{twin}",
            "warehouse": folder / "warehouse",
            "data": {
                "images": folder / "portraits" / "images",
                "table": folder / "portraits" / "attributes.csv",
                "label_column": "label",
                "limit": images,
            },
            "classifier": {"weights": f"portraits:{twin}"},
            "judge": {"weights": "portraits:judge"},
            "oracle": {"weights": "portraits:oracle"},
            "prior": {"path": "portraits:prior", "runtime": "auto"},
            "target_attribute": "smile",
            "saliency": {"regions": folder / "portraits" / "regions"},
            "ladder": [
                {"method": "fastdime", "steps": 50, "tau": 18, "scale": 25, "threshold": 0.3},
                {"method": "fastdime", "steps": 50, "tau": 18, "scale": 60, "threshold": 0.3},
            ],
            "interventions": {"images": min(32, images // 4)},
            "shard_size": 32,
        }
    )


def lay_out(folder: Path, images: int) -> None:
    """Write the demo's portraits: a folder of PNG files and a CSV, as a user's own data would lie, and where attributes show."""
    write_portraits(folder / "portraits", images, SEED, regions=KNOWN)


def findings(root: Path, run_id: str) -> dict[str, Any]:
    """What an audit found, for machines: run_id, flip_rate, judge_flip_rate, the ranked attributes without the target, metrics
    that are absent by the reason, warnings, and those of the whole audit alone, the canary, the explained share by class and all
    findings, unnamed ones too."""
    rows = {name: query(root, sql, {"run": run_id}).to_pylist() for name, sql in FOUND.items()}
    rates = {row["metric"]: row["value"] for row in rows["rates"]}
    return {
        "run_id": run_id,
        "flip_rate": rates.get("fr"),
        "judge_flip_rate": rates.get("judge_fr"),
        "attributes": rows["attributes"],
        "absent": {row["reason"]: row["metrics"] for row in rows["absent"]},
        "warnings": [row["warning"] for row in rows["warnings"]],
        "audit_warnings": [row["warning"] for row in rows["audit_warnings"]],
        "explained": rows["explained"],
        "findings": rows["findings"],
        "canary": next(iter(rows["canary"]), None),
    }
