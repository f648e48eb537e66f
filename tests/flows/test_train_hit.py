"""`cfx train hit`: from a folder and a table to a file that says itself what it is."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.portraits import write_portraits
from flows.cli import app

SHAPE = {"size": 32, "patch": 8, "width": 16, "heads": 2, "blocks": [1, 1]}


@pytest.mark.parametrize(("architecture", "module"), [("hit", "HiT"), ("vit", "VisionTransformer")])
def test_a_network_is_trained_from_a_folder_and_a_table(tmp_path: Path, architecture: str, module: str) -> None:
    table = write_portraits(tmp_path / "faces", 30, seed=0)
    (tmp_path / "training.yaml").write_text(yaml.safe_dump({"shape": SHAPE, "epochs": 2}))
    out = tmp_path / "hit.safetensors"
    arguments = ["train", "hit", str(tmp_path / "faces" / "images"), str(table), "--label", "label", "-o", str(out), "--quiet"]
    arguments += ["--preset", "portraits", "--architecture", architecture, "-c", str(tmp_path / "training.yaml")]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    assert "(10 % of images)" in ended.output
    classifier = load_classifier(ClassifierConfig(weights=out))
    assert type(classifier.network.module).__name__ == module
    assert classifier.classes == ("not_smiling", "smiling")


def test_an_unknown_recipe_is_refused(tmp_path: Path) -> None:
    arguments = ["train", "hit", "images", "table.csv", "--label", "label", "-o", "out.safetensors", "--preset", "imagnet"]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 2
    assert "there is no recipe 'imagnet'; there are imagenet" in " ".join(ended.output.split())
