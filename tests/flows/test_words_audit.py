"""The demo's twins audited by words come to the verdicts that the trained oracle comes to: glasses, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.audit import run_audit
from flows.config import load_config
from flows.demo import TWINS, demo_config, findings, lay_out
from tasks.config import AuditConfig

EXAMPLE = Path(__file__).parents[2] / "examples" / "words.yaml"
FOUND = ("confirmed", "suspected")


def by_words(config: AuditConfig) -> AuditConfig:
    example = load_config(EXAMPLE)
    edits = example.interventions.model_copy(update={"attributes": 2})
    return config.model_copy(update={"name": f"{config.name}-words", "oracle": example.oracle, "interventions": edits})


def accused(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(row["attribute"], row["verdict"]) for row in found["attributes"] if row["verdict"] in FOUND]


@pytest.mark.long
@pytest.mark.parametrize("twin", TWINS)
def test_verdicts_by_words_are_those_of_the_trained_oracle(tmp_path: Path, twin: str) -> None:
    lay_out(tmp_path, 64)
    trained = demo_config(tmp_path, twin, 64)
    seen, said = (findings(config.warehouse, run_audit(config)) for config in (trained, by_words(trained)))
    assert accused(said) == accused(seen) == ([("glasses", "confirmed")] if twin == "planted" else [])
    assert said["explained"][0]["cleared"] == seen["explained"][0]["cleared"]
