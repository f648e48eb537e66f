"""Real audits of three nights: of one classifier nothing is an alarm, of another in its place the first night has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cfx.portraits import write_portraits
from flows.in_process import audit_in_process
from tasks.check import check
from tasks.config import AuditConfig
from warehouse.trend.alarms import alarms, trend

pytestmark = [pytest.mark.slow, pytest.mark.long]


def audited(folder: Path, day: int, twin: str) -> str:
    """A night without prior: answers, properties, places and what explains them."""
    config = {
        "name": "nightly",
        "warehouse": folder / "warehouse",
        "data": {
            "images": folder / "data/images",
            "table": folder / "data/attributes.csv",
            "label_column": "label",
            "limit": {"nightly": 256, "date": f"2025-01-0{day}"},
        },
        "classifier": {"weights": f"portraits:{twin}"},
        "oracle": {"weights": "portraits:oracle"},
        "target_attribute": "smile",
        "device": "cpu",
    }
    return audit_in_process(check(AuditConfig.model_validate(config)))


def test_a_shortcut_that_a_new_classifier_brings_is_an_alarm_on_its_first_night(tmp_path: Path) -> None:
    write_portraits(tmp_path / "data", 480, seed=9)
    first, second = (audited(tmp_path, day, "clean") for day in (1, 2))
    assert first != second and alarms(tmp_path / "warehouse", second) == []
    third = trend(tmp_path / "warehouse", audited(tmp_path, 3, "planted"))
    assert third.references == (first, second) and third.differing == ("classifier", "data")
    accuracy = next(change for change in third.changes if change.kind == "accuracy")
    assert accuracy.n == 256 and accuracy.common >= 128 and accuracy.alarm and accuracy.change < -0.1
    assert {alarm.nights for alarm in third.alarms} == {1}
