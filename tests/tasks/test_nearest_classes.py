"""Targets of an audit of three classes: from its predictions and labels, from its hierarchy, as its shards say."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfx.classifiers import ClassifierConfig
from cfx.methods.dime import FastDiME
from cfx.portraits import write_portraits
from tasks.data.ingest import DataConfig
from tasks.run import Run
from tasks.stages.explain import explain
from tasks.stages.ingest import ingest
from tasks.stages.learn import Learned
from tasks.stages.nearest_classes import nearest_classes
from tasks.stages.predict import predict
from tests.runs import run_of
from warehouse.facts.shards import Shard, read_shard

CLASSES = ("red", "green", "blue")
COLOURS = ClassifierConfig(module=f"{__name__}:Colours", classes=CLASSES)


class Colours(nn.Module):
    """Which channel is the brightest on average; a real network's stand-in with an answer that can be read off an image."""

    def forward(self, x: Tensor) -> Tensor:
        return 50 * x.mean((2, 3))


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Shard], list[Shard]]:
    """Twelve portraits in shards of five, labelled red, green and blue in turn, and what the network says of them."""
    root = tmp_path_factory.mktemp("audit")
    write_portraits(root / "data", 12, seed=3)
    files = sorted(path.name for path in (root / "data/images").iterdir())
    rows = [f"{name},{CLASSES[i % 3]}" for i, name in enumerate(files)]
    (root / "labels.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    data = DataConfig(images=root / "data/images", table=root / "labels.csv", label_column="label")
    run = run_of(root, "run", data=data, classifier=COLOURS, shard_size=5, batch_size=8)
    images = ingest(run)
    return run, images, [predict(run, shard) for shard in images]


def aiming(run: Run, **settings: Any) -> Run:
    return replace(run, config=run.config.model_copy(update=settings))


def column(shards: list[Shard], name: str) -> list[str]:
    return [value for shard in shards for value in read_shard(shard, [name])[name].to_pylist()]


def test_the_most_confused_class_is_counted_over_all_shards(predicted: tuple[Run, list[Shard], list[Shard]]) -> None:
    run, images, answers = predicted
    labels, said = column(images, "label"), column(answers, "class")
    together = {
        (a, b): sum(
            sum(1 for pair in zip(labels, said, strict=True) if pair == (true, given)) / max(1, labels.count(true))
            for true, given in ((a, b), (b, a))
        )
        for a in CLASSES
        for b in CLASSES
        if a != b
    }
    expected = []
    for one in CLASSES:
        most = max(share for (a, _), share in together.items() if a == one)
        expected.append([i for i, b in enumerate(CLASSES) if b != one and together[one, b] == pytest.approx(most) and most])
    assert nearest_classes(aiming(run, target="most-confused"), images, answers) == expected
    assert len(set(said)) > 1  # and there was something to confuse


def test_explanations_ask_for_the_nearest_class(predicted: tuple[Run, list[Shard], list[Shard]]) -> None:
    run, images, answers = predicted
    hierarchy = {"red": ("warm",), "green": ("cold",), "blue": ("cold",)}
    ladder = (FastDiME(steps=50, tau=2, scale=5, loss="margin"),)
    run = aiming(run, target="nearest-in-hierarchy", hierarchy=hierarchy, ladder=ladder)
    nearest = nearest_classes(run, images, answers)
    assert nearest == [[], [2], [1]]
    found = explain(run, images[0], answers[0], Learned(nearest))
    rows = read_shard(found, ["source", "target", "arm", "p_target", "p_target_cf"]).to_pylist()
    assert len(rows) == 10
    runners_up = torch.tensor(read_shard(answers[0], ["probabilities"])["probabilities"].to_pylist()).topk(2).indices[:, 1]
    for row, runner_up in zip(rows, runners_up.tolist() * 2, strict=True):
        assert row["target"] == {"green": "blue", "blue": "green"}.get(row["source"], CLASSES[runner_up])
    assert nearest_classes(aiming(run, target="second-best"), [], []) is None
