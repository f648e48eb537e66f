"""A name that is mistyped is refused before any work, with the one that it is like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.toy_audit import lay_out, settings
from cfx.errors import ConfigError
from tasks.check import check
from tasks.config import AuditConfig
from tasks.data.labels import Labels
from tasks.training.auto import Prepared
from warehouse.facts.storage import files_below


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("names")
    lay_out(home, 8)
    return home


def no_training(config: AuditConfig, classes: Sequence[str], labels: Labels, device: str) -> Prepared:
    raise AssertionError("names are checked before networks are trained")


def refusal(home: Path, **changes: Any) -> str:
    config = AuditConfig.model_validate(settings(home, 4) | changes)
    with pytest.raises(ConfigError) as refused:
        check(config, no_training if any(value == "auto" for value in changes.values()) else lambda config, *_: Prepared(config))
    assert not files_below(home / "warehouse", "**/*"), "nothing was computed"
    return str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gate": {"forbidden": ["hatt"]}}, "gate.forbidden: the oracle does not know 'hatt' (did you mean 'hat'?); it knows"),
        ({"gate": {"protected": ["glases"]}}, "gate.protected: 'glases' is neither annotated nor"),
        ({"gate": {"protected": ["glases"]}}, "(did you mean 'glasses'?)"),
        ({"target_attribute": "Smile "}, "target_attribute: the oracle does not know 'Smile ' (did you mean 'smile'?)"),
        ({"target": "smilling"}, "target: unknown target class 'smilling' (did you mean 'smiling' or 'not_smiling'?)"),
        (
            {"canary": {"planted": "classifier", "clean": "classifier", "attribute": "bread"}},
            "canary.attribute: 'bread' cannot be ranked (did you mean 'beard'?)",
        ),
    ],
)
def test_a_mistyped_name_is_refused_with_what_it_is_like(home: Path, changes: dict[str, Any], words: str) -> None:
    if "canary" in changes:
        known = {"weights": str(home / "classifier.safetensors")}
        changes = {"canary": changes["canary"] | {"planted": known, "clean": known}}
    assert words in refusal(home, **changes)


def test_a_mistyped_column_is_too(home: Path) -> None:
    data = settings(home, 4)["data"] | {"label_column": "labels"}
    assert "has no column 'labels' (did you mean 'label'?)" in refusal(home, data=data)


@pytest.mark.parametrize("role", ["oracle", "judge"])
def test_an_audit_that_trains_networks_checks_names_before(home: Path, role: str) -> None:
    told = refusal(home, **{role: "auto"}, gate={"forbidden": ["bread"]})
    assert "gate.forbidden: the oracle does not know 'bread' (did you mean 'beard'?)" in told
