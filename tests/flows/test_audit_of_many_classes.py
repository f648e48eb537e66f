"""A whole audit of a classifier of a thousand classes, with an oracle of two hundred attributes, on a dozen images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.toy_audit import lay_out, settings
from cfx.checkpoint import Facts, save_network
from cfx.networks.convnet import ConvNet
from flows.audit import run_audit
from tasks.config import AuditConfig
from warehouse.lens.connect import query

N, CLASSES, ATTRIBUTES = 12, 1000, 200
COLUMNS = ["source", "target", "run_id", "image_id", "label", "class", "method", "value", "<b>"]  # some are called as these are


@pytest.mark.long
def test_a_thousand_classes_and_two_hundred_attributes(tmp_path: Path, prefect_server: dict[str, str]) -> None:
    lay_out(tmp_path, N)
    names = {
        "classes": [f"class {i}" for i in range(CLASSES)],
        "attributes": COLUMNS + [f"attribute {i}" for i in range(len(COLUMNS), ATTRIBUTES)],
    }
    torch.manual_seed(0)
    for file, kind in (("classifier", "classes"), ("oracle", "attributes")):
        kwargs: dict[str, object] = {"outputs": len(names[kind]), "widths": [8], "grid": 2}
        network = ConvNet(len(names[kind]), (8,), 2)
        facts: Facts = {"module": "cfx.networks.convnet:ConvNet", "kwargs": kwargs, "input_size": 16}
        facts |= {"classes": names[kind]} if kind == "classes" else {"attributes": names[kind]}
        save_network(tmp_path / f"{file}.safetensors", network, facts)
    more = {
        "data": settings(tmp_path, N)["data"] | {"label_column": None},
        "target": "class 999",
        "target_attribute": None,
        "interventions": {"images": 2, "attributes": 2, "steps": 100, "tau": 2},
    }
    run = run_audit(AuditConfig.model_validate(settings(tmp_path, N, **more)))
    root = tmp_path / "warehouse"
    (found,) = query(root, "select status, explained from runs").to_pylist()
    assert found["status"] == "finished" and found["explained"] <= N
    for row in query(root, "select target, n, low, effect, high from ranked_attributes").to_pylist():
        assert row["target"] == "class 999" and row["n"] >= 8 and -1 <= row["low"] <= row["effect"] <= row["high"] <= 1
    page = (root / "reports" / f"{run}.html").read_text()
    assert f"The first 40 of {ATTRIBUTES} attributes" in page and len(page) < 3_000_000
    assert f"{ATTRIBUTES} attributes, ranked below" in page and "The first 40 of 2" in page.split("Release checks", 2)[-1]
    (shown,) = query(root, "select count(*) as n from verdicts").to_pylist()
    assert shown["n"] == ATTRIBUTES


@pytest.mark.slow
@pytest.mark.parametrize("target", [pytest.param("second-best", marks=pytest.mark.long), "each"])
def test_of_ten_classes_no_claim_rests_on_fewer_than_the_minimum(
    tmp_path: Path, prefect_server: dict[str, str], target: str
) -> None:
    lay_out(tmp_path, 100)
    torch.manual_seed(1)
    network = ConvNet(10, (8,), 2)
    torch.nn.init.normal_(network.head.weight, std=3.0)  # so that it predicts several classes
    facts: Facts = {"module": "cfx.networks.convnet:ConvNet", "kwargs": {"outputs": 10, "widths": [8], "grid": 2}}
    facts |= {"input_size": 16, "classes": [f"class {i}" for i in range(10)]}
    save_network(tmp_path / "classifier.safetensors", network, facts)
    more = {
        "data": settings(tmp_path, 50)["data"] | {"label_column": None},
        "target": target,
        "interventions": {"images": 4, "attributes": 1, "steps": 100, "tau": 2},
    }
    run_audit(AuditConfig.model_validate(settings(tmp_path, 50, **more)))
    root = tmp_path / "warehouse"
    asked = query(root, "select target, count(*) as n from explanations where arm = 'guided' group by target").to_pylist()
    assert sum(row["n"] for row in asked) == 100 and len(asked) == (10 if target == "each" else len(asked))
    enough = {row["target"] for row in asked if row["n"] >= 8}
    for view in ("ranked_attributes", "attribute_effects", "attribute_tests", "verdicts"):
        rows = query(root, f"select target, n, low, effect, high from {view}").to_pylist()
        assert rows and all(row["n"] >= 8 and row["target"] in enough for row in rows)
        assert all(-1 <= row["low"] <= row["effect"] <= row["high"] <= 1 for row in rows)
    pooled = query(
        root, "select target, count(distinct attribute) as n, max(n) as images from attribute_tests where pooled group by 1"
    )
    assert {row["target"] for row in pooled.to_pylist()} == enough
