"""The report says when a black box was steered by a surrogate, and what that evidence is worth."""

import json
from typing import Any

import pytest

from warehouse.report.limitations import SURROGATE, limits


@pytest.mark.parametrize(("config", "told"), [({"surrogate": {"steps": 600}}, True), ({"surrogate": None}, False), ({}, False)])
def test_a_surrogate_is_told_where_there_was_one(config: dict[str, Any], told: bool) -> None:
    run = {"config": json.dumps(config), "target_attribute": "smile"}
    assert (SURROGATE in limits(run, [], {}, None)) is told
