"""The report says when a surrogate guided the search, and what that evidence is worth."""

import json
from typing import Any

import pytest

from warehouse.report.limitations import SURROGATE, limits


@pytest.mark.parametrize(("config", "named"), [({"surrogate": {"steps": 600}}, True), ({"surrogate": None}, False), ({}, False)])
def test_a_surrogate_is_named_where_there_was_one(config: dict[str, Any], named: bool) -> None:
    run = {"config": json.dumps(config), "target_attribute": "smile"}
    assert (SURROGATE in limits(run, [], {}, None)) is named
