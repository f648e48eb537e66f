"""Repairs: a leaning classifier stops leaning, what is put into its last layer is the regression that was fitted, and what cannot
be repaired is refused before work starts, with the way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from portrait_run import write_portrait_run
from torch import Tensor, nn
from typer.testing import CliRunner

from cfx.checkpoint import read_facts, save_network
from cfx.classifiers import ClassifierConfig, TorchClassifier, load_classifier
from cfx.classifiers.last_layer import features, last_linear
from cfx.classifiers.network import Network, NetworkConfig
from cfx.errors import UserError
from cfx.images import from_uint8
from cfx.networks.convnet import ConvNet
from cfx.training.repair import Repair, repaired
from flows.cli import app
from flows.config import load_config
from flows.terminal import DEFAULT_WAREHOUSE
from tasks.networks import fingerprint
from tasks.training.repair import Share, _share
from warehouse.facts.schema import RUNS
from warehouse.facts.shards import write_shard
from warehouse.lens.connect import query

RUN = "planted-demo"
CLASSES = ("neutral", "smiling")


class TwoColours(nn.Module):
    """Features: mean of red and of green; the logits look at red alone."""

    def __init__(self, outputs: int = 2) -> None:
        super().__init__()
        self.head = nn.Linear(2, outputs)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.zero_()
            self.head.weight[-1, 0] = 4.0

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(x[:, :2].mean((2, 3)))
        return logits


def leaning(outputs: int = 2) -> TorchClassifier:
    network = Network(TwoColours(outputs), "two colours", NetworkConfig(module="a:b", input_size=8), {})
    head = "sigmoid" if outputs == 1 else "softmax"
    return TorchClassifier(network, ("dark", "light"), head).eval().requires_grad_(False)


def coloured(n: int = 160) -> tuple[Tensor, Tensor, Tensor]:
    """Green tells the label; red is a coin of its own, so that every group of label and red comes equally often."""
    chance = torch.Generator().manual_seed(0)
    labels, red = torch.arange(n) % 2, torch.arange(n) // 2 % 2
    images = torch.randint(60, 90, (n, 3, 8, 8), generator=chance, dtype=torch.uint8)
    images[:, 0] += (100 * red).to(torch.uint8)[:, None, None]
    images[:, 1] += (100 * labels).to(torch.uint8)[:, None, None]
    return images, labels, torch.ones(n, dtype=torch.float64)


def accuracy(classifier: TorchClassifier, images: Tensor, labels: Tensor) -> float:
    return float((classifier(from_uint8(images)).argmax(1) == labels).float().mean())


@pytest.mark.parametrize("settings", [{"method": "fine-tune", "learning_rate": 0.1}, {"method": "last-layer"}])
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_classifier_that_looks_at_the_wrong_colour_learns_the_right_one(settings: dict[str, Any], outputs: int) -> None:
    classifier, (images, labels, weights) = leaning(outputs), coloured()
    assert accuracy(classifier, images, labels) == 0.5  # red is a coin
    repaired(classifier, images, labels, weights, Repair(**{"steps": 120, **settings}))
    assert accuracy(classifier, images, labels) == 1.0
    assert not classifier.training and not any(part.requires_grad for part in classifier.parameters())


def test_the_last_layer_is_the_regression_on_its_features() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    classifier, (images, labels, weights) = leaning(), coloured()
    weights[:40] = 3.0
    seen = features(classifier.network, last_linear(classifier.network)[0], from_uint8(images))
    scaled = StandardScaler().fit_transform(seen)
    model = LogisticRegression(C=0.1, max_iter=5_000).fit(scaled, labels.numpy(), sample_weight=weights.numpy())
    repaired(classifier, images, labels, weights, Repair(method="last-layer", strength=0.1))
    np.testing.assert_allclose(classifier(from_uint8(images)).softmax(1).numpy(), model.predict_proba(scaled), atol=1e-5)


def test_a_network_without_a_linear_end_has_no_last_layer_to_retrain() -> None:
    network = Network(
        nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten()), "convolutions", NetworkConfig(module="a:b", input_size=8), {}
    )
    classifier = TorchClassifier(network, ("dark", "light"))
    with pytest.raises(UserError, match="convolutions does not end in a linear layer"):
        repaired(classifier, *coloured(), Repair(method="last-layer"))


def test_a_share_has_wilsons_interval() -> None:
    # Wilson 1927 for 81 of 263, the example of Newcombe 1998 (Statistics in Medicine 17, table I): 0.2553 to 0.3662
    assert _share(81, 263) == pytest.approx(Share(81 / 263, 0.2553, 0.3662, 263), abs=5e-5)


Finished = Callable[..., Path]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that confirms glasses, but for how it ended; and a small classifier of its classes."""
    from test_training_set import edit_rows

    root = tmp_path_factory.mktemp("warehouse")
    write_portrait_run(root, status="started", drawn=False)
    rows = query(root, "select image_id, attribute, switched_on from effects where attribute = 'glasses'").to_pylist()
    write_shard(root, "edits", "edits-demo", "0", edit_rows(rows))
    torch.manual_seed(0)
    kwargs: dict[str, object] = {"outputs": 2, "widths": (4,), "grid": 4}
    facts: Any = {"module": "cfx.networks.convnet:ConvNet", "kwargs": kwargs, "input_size": 64, "classes": list(CLASSES)}
    save_network(root / "old.safetensors", ConvNet(2, (4,), 4), facts)
    return root


@pytest.fixture
def finished(drawn: Path, tmp_path: Path) -> Finished:
    """A copy of that run, ended with this classifier in its configuration."""

    def end(**classifier: Any) -> Path:
        root = tmp_path / "w"
        shutil.copytree(drawn, root)
        weights = root / "old.safetensors"
        section = {"weights": str(weights), **classifier}
        config = {"name": "demo", "warehouse": str(root), "data": {"images": str(root), "table": str(root / "t.csv")}}
        (row,) = query(root, "from runs").to_pylist()
        known = fingerprint(load_classifier(ClassifierConfig(weights=weights)))
        row |= {"status": "finished", "finished": row["started"], "config": json.dumps(config | {"classifier": section})}
        row |= {"fingerprints": json.dumps({"classifier": known}), "attempted": 64, "explained": 64, "flipped": 60}
        write_shard(root, "runs", RUN, "finished", {name: [row[name]] for name in RUNS.schema.names})
        return root

    return end


def run(root: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["repair", RUN, "-w", str(root), "--no-audit", "-q", *arguments])


def test_a_repair_leaves_weights_numbers_a_page_and_the_next_audit(finished: Finished, tmp_path: Path) -> None:
    root = finished()
    (tmp_path / "quick.yaml").write_text("steps: 5\n")
    old = (root / "old.safetensors").read_bytes()
    command = (root, "--config", str(tmp_path / "quick.yaml"), "--json")
    said = run(*command)
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout.splitlines()[-1])
    assert found["held_out"] == 32 and found["trained_on"]["original"] == 32
    for moment in ("before", "after"):
        assert sum(group["n"] for group in found[moment]["groups"]) == 32
        assert found[moment]["worst_group"]["value"] == min(group["value"] for group in found[moment]["groups"])
        assert found[moment]["edited"]["glasses"]["n"] > 5
    new = Path(found["weights"])
    assert (root / "old.safetensors").read_bytes() == old
    assert read_facts(new)["repair"]["run"] == RUN  # type: ignore[typeddict-item]
    config = load_config(Path(found["yaml"]))
    assert isinstance(config.classifier, ClassifierConfig) and config.classifier.weights == new.resolve()
    assert config.name == "demo-repaired"
    page = Path(found["page"]).read_text()
    assert "<script" not in page and page.count("data:image/png") >= 2 * len(found["pairs"]) > 0
    written = new.stat().st_mtime_ns
    assert json.loads(run(*command).stdout.splitlines()[-1]) == found and new.stat().st_mtime_ns == written
    again = run(root, "--to", str(new), "--method", "last-layer")
    assert again.exit_code == 2 and "is there already" in again.stderr


@pytest.mark.parametrize(
    ("classifier", "arguments", "message"),
    [
        ({"access": "onnx", "weights": "m.onnx"}, (), "black box (access: onnx)"),
        ({"module": "cfx.live:model", "weights": None}, (), "a program that has ended"),
        ({}, ("--method", "prune"), "there is no 'prune'; there are fine-tune, reweight, last-layer"),
        ({}, ("--to", "new.pt"), "must end in .safetensors"),
        ({}, ("--to", "/nosuch/new.safetensors"), "there is no folder /nosuch"),
    ],
)
def test_what_cannot_be_repaired_is_refused_with_the_way_out(
    finished: Finished, classifier: dict[str, Any], arguments: tuple[str, ...], message: str
) -> None:
    root = finished(**classifier)
    said = run(root, *arguments)
    assert said.exit_code == 2 and message in said.stderr.replace("\n", " ")
    assert not (root / "repairs").exists()


def test_a_classifier_that_changed_since_its_audit_is_not_repaired(finished: Finished) -> None:
    root = finished()
    network = ConvNet(2, (4,), 4)
    save_network(root / "old.safetensors", network, read_facts(root / "old.safetensors"))
    assert "no longer the one that was audited" in run(root).stderr.replace("\n", " ")


@pytest.mark.long
@pytest.mark.slow
def test_the_demos_planted_classifier_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["demo", "--images", "256", "-q"]).exit_code == 0
    (planted,) = query(DEFAULT_WAREHOUSE, "select run_id from runs where name = 'portraits-planted'")["run_id"].to_pylist()
    said = CliRunner().invoke(app, ["repair", planted, "-q", "--json"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout.splitlines()[-1])
    before, after = (found[moment]["audit"] for moment in ("before", "after"))
    assert (before["gate"], after["gate"]) == ("fail", "pass")
    assert before["edited"]["glasses"]["effect"] > 0.25 and abs(after["edited"]["glasses"]["effect"]) < 0.1
    assert found["after"]["worst_group"]["value"] >= 0.9
    assert yaml.safe_load(Path(found["yaml"]).read_text())["name"] == "portraits-planted-repaired"
