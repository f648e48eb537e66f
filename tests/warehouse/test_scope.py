"""The report names the classifier and the access that its configuration declares, and guesses neither."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from cfx.classifiers import AnyClassifier
from warehouse.report.scope import ACCESS, access, model_name, scope

FULL = {"access": "json", "url": "https://models.example/ask", "request": "{}", "response": "[]", "classes": ["a", "b"]}
IMAGE = {"image": {"size": 64}, "classes": ["a", "b"]}
CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"weights": "portraits:planted"}, "white box", "portraits:planted"),
    ({"access": "torch", "module": "mine:network", "weights": "w.pt"}, "white box", "mine:network with w.pt"),
    ({"access": "callable", "module": "my_package.model:answer"} | IMAGE, "Python function", "my_package.model:answer"),
    ({"access": "onnx", "weights": "smile.onnx"} | IMAGE, "ONNX file", "smile.onnx"),
    ({"access": "kserve", "url": "https://m.example", "model": "smile"} | IMAGE, "KServe", "smile at https://m.example"),
    (
        {"access": "kserve", "url": "https://m.example", "model": "smile", "version": "2"} | IMAGE,
        "KServe endpoint",
        "smile, version 2 at https://m.example",
    ),
    (FULL | IMAGE, "JSON endpoint", "https://models.example/ask"),
]


def entries(config: dict[str, Any]) -> dict[str, str]:
    run = {"config": json.dumps(config), "classes": ["a", "b"], "target_attribute": "smile"}
    return dict(scope(run, [], []))


@pytest.mark.parametrize(("classifier", "kind", "name"), CASES)
def test_each_access_is_named_as_the_configuration_that_an_audit_keeps_says(
    classifier: dict[str, Any], kind: str, name: str
) -> None:
    kept = TypeAdapter(AnyClassifier).validate_python(classifier).model_dump(mode="json")
    for config in (classifier, kept):  # with and without its defaults
        found = entries({"classifier": config, "judge": config})
        assert kind in found["Access"] and found["Access"].startswith("white box" if kind == "white box" else "black box")
        assert found["Classifier"] == found["Judge"] == name


def test_every_access_mode_of_the_configuration_has_its_words() -> None:
    modes = {tag.tag for option in get_args(get_args(AnyClassifier)[0]) for tag in get_args(option) if hasattr(tag, "tag")}
    assert modes == set(ACCESS) == {case.get("access", "torch") for case, *_ in CASES}


def test_an_access_that_is_not_known_is_not_called_a_white_box() -> None:
    assert access({"access": "telepathy", "weights": "w"}) == "unknown: access 'telepathy'"


def test_what_the_configuration_leaves_out_is_left_out() -> None:
    assert access({}) == model_name({}) == ""
    assert "Classifier" not in entries({}) and entries({})["Judge"] == "none"
