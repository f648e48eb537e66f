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


@pytest.mark.slow
def test_a_thousand_classes_and_two_hundred_attributes(tmp_path: Path, prefect_server: dict[str, str]) -> None:
    lay_out(tmp_path, N)
    names = {"classes": [f"class {i}" for i in range(CLASSES)], "attributes": [f"attribute {i}" for i in range(ATTRIBUTES)]}
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
