"""Of the demo's twins the same is confirmed by words as by the trained oracle: glasses of the planted one, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.audit import run_audit
from flows.config import load_config
from flows.demo import TWINS, demo_config, findings, lay_out
from tasks.config import AuditConfig

EXAMPLE = Path(__file__).parents[2] / "examples" / "words.yaml"


def by_words(config: AuditConfig) -> AuditConfig:
    example = load_config(EXAMPLE)
    edits = example.interventions.model_copy(update={"attributes": 2})
    return config.model_copy(update={"name": f"{config.name}-words", "oracle": example.oracle, "interventions": edits})


def confirmed(found: dict[str, Any]) -> list[str]:
    return [row["attribute"] for row in found["attributes"] if row["verdict"] == "confirmed"]


@pytest.mark.long
@pytest.mark.parametrize("twin", TWINS)
def test_what_is_confirmed_by_words_is_what_the_trained_oracle_confirms(tmp_path: Path, twin: str) -> None:
    lay_out(tmp_path, 64)
    trained = demo_config(tmp_path, twin, 64)
    seen, said = (findings(config.warehouse, run_audit(config)) for config in (trained, by_words(trained)))
    assert confirmed(said) == confirmed(seen) == (["glasses"] if twin == "planted" else [])
    assert said["explained"][0]["cleared"] == seen["explained"][0]["cleared"]
