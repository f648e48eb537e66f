"""Networks that an audit trains itself: on images that it does not audit, once, and not where there is nothing to learn."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from cfx.attributes.oracle import OracleConfig
from cfx.checkpoint import read_facts
from cfx.errors import ConfigError
from cfx.training.classifier import ClassifierTraining
from flows.cli import app
from flows.config import load_config
from tasks.check import check
from tasks.config import AuditConfig
from tasks.data.ingest import selected
from tasks.training import auto
from tests.flows.init_subject import CLASSES, MODULE, lay_out, network

SETTINGS = """
name: trial
data: {{images: images, table: table.csv, label_column: label, size: 16, limit: {limit}}}
classifier: {{module: net_for_auto:Net, weights: model.pt, classes: [blue, red]}}
oracle: auto
judge: auto
{more}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = lay_out(tmp_path_factory.mktemp("auto"), 80)
    (home / "net_for_auto.py").write_text(MODULE.format(name="Net"))
    torch.save(network().state_dict(), home / "model.pt")
    return home


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "ClassifierTraining", partial(ClassifierTraining, steps=40))


def config(home: Path, limit: int = 40, more: str = "") -> AuditConfig:
    (home / "run.yaml").write_text(SETTINGS.format(limit=limit, more=more))
    return load_config(home / "run.yaml")


def test_they_are_trained_once_on_images_that_are_not_audited(home: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    prepare = partial(auto.train_networks, report=lambda *step: steps.append(step))
    first = check(config(home), prepare)
    assert [step for step in steps if step[1] == step[2]] == [("oracle", 40, 40), ("judge", 40, 40)]
    assert first.oracle().attributes == ("tag",) and first.config.judge is not None
    steps.clear()
    second = check(config(home), prepare)
    assert not steps and second.id == first.id and second.fingerprints == first.fingerprints
    assert second.understood is not None and "trained on 40 images" in second.understood.trained[0]
    assert isinstance(first.config.oracle, OracleConfig) and (weights := first.config.oracle.weights) is not None
    assert read_facts(weights)["data"]["images"] == 40
    audited = set(selected(first.config.data)["file"].to_pylist())
    learned, shared = auto._rows(first.config.data)
    assert not shared and not audited & set(learned["file"].to_pylist()) and len(audited) == len(learned) == 40


def test_other_data_other_networks(home: Path) -> None:
    before = check(config(home)).config.oracle
    assert check(config(home, 44)).config.oracle != before


def test_check_trains_nothing_and_says_what_it_would(home: Path) -> None:
    (home / "run.yaml").write_text(SETTINGS.format(limit=41, more="prior: auto\nwarehouse: nowhere\ntarget_attribute: tag"))
    ended = CliRunner().invoke(app, ["check", str(home / "run.yaml"), "--json"])
    assert ended.exit_code == 0, ended.output
    said = " ".join(ended.output.split())
    for line in (
        "oracle: yet to be trained on 39 images (tag)",
        "judge: yet to be trained on 39",
        "prior: yet to be trained, 300 to",
    ):
        assert line in said
    assert '"run_id": null' in said and "no oracle: set" not in said
    assert not (home / "nowhere").exists()


def test_without_others_the_audited_images_serve_and_a_warning_says_so(home: Path) -> None:
    run = check(config(home, 80, "seeds: [0]"), auto.expect_networks)
    assert sum("trained on the audited images themselves" in warning for warning in run.warnings) == 2


@pytest.mark.parametrize(
    ("setting", "change", "way_out"),
    [
        ("oracle", {"attribute_columns": []}, "no yes/no column"),
        ("judge", {"label_column": None}, "judge: auto: a judge learns from labels; set data.label_column"),
        ("oracle", {"limit": 60}, "20 images that are not audited can be learned from, and 32 are needed; lower data.limit"),
    ],
)
def test_too_little_to_learn_is_refused(home: Path, setting: str, change: dict[str, Any], way_out: str) -> None:
    known = config(home)
    alone = {name: getattr(known, name) if name == setting else None for name in ("oracle", "judge")}
    with pytest.raises(ConfigError) as refused:
        check(known.model_copy(update={"data": known.data.model_copy(update=change)} | alone))
    assert way_out in str(refused.value)


def test_a_class_without_images_is_refused(home: Path) -> None:
    known = config(home)
    rows = [line for line in (home / "table.csv").read_text().splitlines() if ",red," not in line]
    (home / "blue.csv").write_text("\n".join(rows) + "\n")
    blue = known.data.model_copy(update={"table": home / "blue.csv", "limit": None})
    with pytest.raises(ConfigError, match="fewer than 2 labelled images to learn from, such as 'red'"):
        check(known.model_copy(update={"data": blue, "oracle": None}))


def test_an_attribute_that_is_the_label_is_warned_about(home: Path) -> None:
    rows = [
        f"{line},{'is_red' if i == 0 else int(',red,' in line)}"
        for i, line in enumerate((home / "table.csv").read_text().splitlines())
    ]
    (home / "both.csv").write_text("\n".join(rows) + "\n")
    known = config(home)
    both = known.model_copy(update={"data": known.data.model_copy(update={"table": home / "both.csv"}), "judge": None})
    assert any("'is_red' is the label itself" in warning for warning in check(both, auto.expect_networks).warnings)


def test_auto_means_the_same_in_python() -> None:
    made = {"name": "a", "data": {"images": "i", "table": "t.csv", "size": 28}, "classifier": {"weights": "portraits:planted"}}
    prior = AuditConfig.model_validate(made | {"prior": "auto"}).prior
    assert prior is not None and prior.train is not None and (prior.train.size, prior.train.patch) == (28, 2)
    assert list(CLASSES) == sorted(CLASSES)
