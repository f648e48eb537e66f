"""The examples of clothes and of solar cells in a small version; left out where their images are not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from cfx.training.classifier import ClassifierTraining
from flows.audit import run_audit
from flows.config import load_config
from tasks.data.ingest import DataConfig
from tasks.training.from_folder import convnet_from_lesson
from tasks.training.lesson import attributes_of
from tasks.training.real_data import FASHION
from tests.example_scripts import EXAMPLES, script
from warehouse.lens.connect import query

pytestmark = pytest.mark.slow
fashion = pytest.mark.skipif(not FASHION.is_dir(), reason="no Fashion-MNIST: apt-get install dataset-fashion-mnist")
solar = pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="no solar cells: pip install elpv-dataset")


def count(settings: dict[str, Any]) -> int:
    """How many values a configuration sets."""
    return sum(count(value) if isinstance(value, dict) else 1 for value in settings.values())


@pytest.mark.parametrize("example", ["fashion", "solar"])
@pytest.mark.parametrize("twin", ["planted", "clean"])
def test_an_example_needs_few_settings(example: str, twin: str) -> None:
    settings = yaml.safe_load((EXAMPLES / example / f"{twin}.yaml").read_text())
    assert count(settings) <= (8 if example == "fashion" else 10)


def audited(folder: Path, example: str, train: ModuleType, size: int, **more: Any) -> list[dict[str, Any]]:
    """Trains the planted twin in `folder/cfx-EXAMPLE`, and an oracle; what its audit found."""
    made = folder / f"cfx-{example}"
    train.main("planted", made)
    reference = made / "reference"
    lesson = attributes_of(DataConfig(images=reference / "images", table=reference / "table.csv", size=size))
    convnet_from_lesson(lesson, made / "oracle.safetensors", ClassifierTraining(steps=150), lambda step, loss: None)
    here = folder / "examples" / example
    here.mkdir(parents=True)
    (here / "network.py").write_bytes((EXAMPLES / example / "network.py").read_bytes())
    settings = yaml.safe_load((EXAMPLES / example / "planted.yaml").read_text())
    (here / "run.yaml").write_text(yaml.safe_dump(settings | {"warehouse": "../../warehouse", "device": "cpu"} | more))
    run_audit(load_config(here / "run.yaml"))
    return query(folder / "warehouse", "from findings").to_pylist()


@fashion
def test_the_tag_on_clothes_is_found_and_measured(
    tmp_path: Path, prefect_server: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = script("fashion/train.py")
    for name, value in {"TRAINED_ON": 4_000, "EPOCHS": 3, "AUDITED": 96, "REFERENCE": 600}.items():
        monkeypatch.setattr(train, name, value)
    found = {row["name"]: row for row in audited(tmp_path, "fashion", train, 28) if row["kind"] == "place"}
    exact = float(capsys.readouterr().out.split("moves P(coat) by ")[1].split()[0])
    assert found["bottom right"]["verdict"] == "confirmed"
    assert found["bottom right"]["intervention"] == pytest.approx(exact, abs=0.1)


@solar
@pytest.mark.long
def test_the_sticker_on_cells_is_found(tmp_path: Path, prefect_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    train = script("solar/train.py")
    for name, value in {"AUDITED": 60, "REFERENCE": 200, "EPOCHS": 3}.items():
        monkeypatch.setattr(train, name, value)
    found = {row["name"]: row for row in audited(tmp_path, "solar", train, 64, prior=None)}
    assert found["bottom right"]["verdict"] == "confirmed" and found["bottom right"]["low"] > 0
    assert found["brightness"]["verdict"] == "fragile" and found["brightness"]["low"] < found["brightness"]["high"]
